use std::process::ExitCode;

use agent_sre::TraceId;
use agent_sre::trace::{SpanNode, TraceTree};
use anyhow::bail;

use super::kept::{KeptTraces, ServiceArgs};
use super::recorded;
use crate::input::RecordingArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    #[command(flatten)]
    service: ServiceArgs,
    /// Only the trace with this id: 32 hex digits.
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// Only the traces with this task.
    #[arg(long, value_name = "ID", conflicts_with = "trace")]
    task: Option<String>,
    /// The output format.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
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

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let trees = match &args.service.url {
        Some(url) => {
            let kept = KeptTraces::of(url, args.service.token.take())?;
            match (args.trace, &args.task) {
                (Some(id), _) => kept.tree(id)?,
                (None, Some(task)) => kept.trees_of_task(task)?,
                (None, None) => bail!(
                    "found `--url` alone, expected `--trace` or `--task` with it; `sre trace list` lists the traces"
                ),
            }
        }
        None => args.recorded()?,
    };
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
    fn recorded(&self) -> anyhow::Result<Vec<TraceTree>> {
        let mut trees = TraceTree::build(recorded::spans(&self.recording, None)?);
        let found = trees.len();
        trees.retain(|tree| self.selects(tree));
        match self.selection() {
            _ if !trees.is_empty() => Ok(trees),
            Some(selection) if found > 0 => bail!("found no {selection} in the input, which has {found} traces"),
            _ => bail!("found no spans in the input"),
        }
    }

    fn selects(&self, tree: &TraceTree) -> bool {
        let is_of_task = |task: &String| {
            // The task of a trace from OpenTelemetry is named by the trace, and by its span if it is not the first.
            let is_named = |node: &SpanNode| {
                node.span.task.as_deref() == Some(task.as_str())
                    || *task == format!("{}-{}", tree.trace_id, node.span.span_id)
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
