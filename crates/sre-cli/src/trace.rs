use std::path::PathBuf;
use std::process::ExitCode;

use agent_sre::adapter::IngestReport;
use agent_sre::cost::{PriceBook, Pricing};
use agent_sre::trace::TraceTree;
use agent_sre::{AgentEvent, Event, RunLimits, Span, TraceId, otel};
use anyhow::bail;

use crate::input::{self, Input, InputFormat};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the traces of a recorded run as trees: where the time went, what they cost, what failed, and where they are incomplete.
    Show(Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The format of the input.
    #[arg(long, value_parser = input::formats(), default_value = "auto", value_name = "FORMAT")]
    from: InputFormat,
    /// Files with one record per line (for OTLP also the protobuf body of a request), or `-` for standard input.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Only the trace with this id: 32 hex digits.
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// Only the traces with this task.
    #[arg(long, value_name = "ID", conflicts_with = "trace")]
    task: Option<String>,
    /// The output format.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Add costs to model calls without one, from this file: LiteLLM's price map as JSON, or a price list as YAML.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Fail on a malformed line instead of skipping it.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    /// A table with a line for each span.
    Text,
    /// A list of trees.
    Json,
    /// A flow chart of one trace.
    Mermaid,
}

pub(crate) fn run(Command::Show(args): &Command) -> anyhow::Result<ExitCode> {
    let mut trees = TraceTree::build(args.spans()?);
    let found = trees.len();
    trees.retain(|tree| args.selects(tree));
    if trees.is_empty() {
        match args.selection() {
            Some(selection) if found > 0 => bail!("found no {selection} in the input, which has {found} traces"),
            _ => bail!("found no spans in the input"),
        }
    }
    match (args.output, &*trees) {
        (Output::Text, trees) => {
            let tables: Vec<String> = trees.iter().map(ToString::to_string).collect();
            out!("{}", tables.join("\n"))?;
        }
        (Output::Json, trees) => outln!("{}", serde_json::to_string_pretty(trees)?)?,
        (Output::Mermaid, [tree]) => out!("{}", tree.to_mermaid())?,
        (Output::Mermaid, trees) => {
            bail!("found {} traces, expected one: choose it by `--trace` or `--task`", trees.len())
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Reads the spans of the input: those of an OpenTelemetry export as they are, those of other formats from their agent events.
    fn spans(&self) -> anyhow::Result<Vec<Span>> {
        let mut input = Input::new(&self.input);
        let format = input.format(self.from)?;
        let prices = self.prices.as_deref().map(PriceBook::load).transpose()?.unwrap_or_else(PriceBook::public);
        let pricing = Pricing::new(prices);
        let mut spans = Vec::new();
        if format.as_str() == "otlp" {
            let mut add = |mut span: Span, event: Option<Event>| {
                if let Some(event) = event {
                    let mut event = AgentEvent::new(span.end, span.agent.clone().unwrap_or_default(), event);
                    pricing.price(&mut event);
                    span.set_usage(&event.event);
                }
                spans.push(span);
            };
            input.read_records(self.strict, &mut |record| {
                let rejected = otel::read_spans(record, &mut add)?;
                let mut report = IngestReport::accepted();
                if rejected > 0 {
                    report.reject(
                        rejected,
                        format!("found {rejected} spans without ids and times, or with a number out of range"),
                    );
                }
                Ok(report)
            })?;
        } else {
            let mut adapter = format.adapter(RunLimits::default());
            let mut add = |mut event: AgentEvent| {
                pricing.price(&mut event);
                spans.extend(Span::of(&event));
            };
            input.read(self.strict, &mut *adapter, &mut add)?;
            adapter.finish(&mut add);
        }
        Ok(spans)
    }

    fn selects(&self, tree: &TraceTree) -> bool {
        let is_of_task = |task: &String| {
            // The task of a trace from OpenTelemetry is named by the trace, and by its span if it is not the first.
            let is_named = |node: &agent_sre::trace::SpanNode| {
                node.span.task.as_ref() == Some(task) || *task == format!("{}-{}", tree.trace_id, node.span.span_id)
            };
            *task == tree.trace_id.to_string() || tree.nodes.iter().any(is_named)
        };
        self.trace.is_none_or(|id| id == tree.trace_id) && self.task.as_ref().is_none_or(is_of_task)
    }

    fn selection(&self) -> Option<String> {
        let trace = self.trace.map(|id| format!("trace {id}"));
        trace.or_else(|| self.task.as_ref().map(|task| format!("task `{task}`")))
    }
}
