use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use agent_sre::slo::{SliRegistry, Slo, SloSpec};
use agent_sre::trace::TraceTree;
use agent_sre::{AgentEvent, Span, Timestamp, TraceId, Usd};
use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::recorded;
use crate::input::RecordingArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    /// Objectives: a YAML file, or a folder of them; may be repeated.
    #[arg(long, requires = "slo", value_name = "FILE_OR_DIR")]
    objectives: Vec<PathBuf>,
    /// Only the traces with events that this objective counts.
    #[arg(long, requires = "objectives", value_name = "NAME")]
    slo: Option<String>,
    /// Only the traces with events that are bad by the objective: those that spent its error budget.
    #[arg(long, requires = "slo")]
    bad: bool,
    /// The output format.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table with a line for each trace.
    Text,
    /// A list of objects.
    Json,
}

/// A trace in the list.
#[derive(Serialize)]
struct Row<'a> {
    trace_id: TraceId,
    start: Timestamp,
    duration_ms: f64,
    /// Of the first span.
    name: &'a str,
    /// Of the first span that has one.
    agent: Option<&'a str>,
    /// Of the first span that has one.
    task: Option<&'a str>,
    spans: usize,
    errors: usize,
    retries: usize,
    broken_hops: usize,
    cost_usd: Option<Usd>,
    input_tokens: u64,
    output_tokens: u64,
    /// The events that the objective counts.
    #[serde(flatten)]
    counted: Option<Counted>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Counted {
    good: u64,
    bad: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut judge = args.slo.as_deref().map(|name| Judge::new(&args.objectives, name)).transpose()?;
    let spans = match &mut judge {
        Some(judge) => recorded::spans(&args.recording, Some(&mut |event| judge.count(event)))?,
        None => recorded::spans(&args.recording, None)?,
    };
    let trees = TraceTree::build(spans);
    if trees.is_empty() {
        bail!("found no spans in the input");
    }
    let counted = judge.map(|judge| judge.counted);
    let is_listed = |row: &Row<'_>| match row.counted {
        Some(counted) => counted.bad > 0 || (counted.good > 0 && !args.bad),
        None => counted.is_none(),
    };
    let rows = trees.iter().map(|tree| {
        let counted = counted.as_ref().and_then(|counted| counted.get(&tree.trace_id)).copied();
        (Row::of(tree, counted), tree)
    });
    let rows: Vec<(Row<'_>, &TraceTree)> = rows.filter(|(row, _)| is_listed(row)).collect();
    if args.output == Output::Json {
        let rows: Vec<&Row<'_>> = rows.iter().map(|(row, _)| row).collect();
        outln!("{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !rows.is_empty() {
        outln!("{}", table(&rows).trim_fmt())?;
    }
    if let Some((counted, name)) = counted.zip(args.slo.as_deref()) {
        let bad: u64 = counted.values().map(|counted| counted.bad).sum();
        let good: u64 = counted.values().map(|counted| counted.good).sum();
        outln!("{bad} of {} events of {name} bad", bad + good)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts the events of each trace by an objective.
struct Judge {
    spec: SloSpec,
    registry: SliRegistry,
    by_agent: HashMap<String, Slo>,
    counted: BTreeMap<TraceId, Counted>,
}

impl Judge {
    fn new(objectives: &[PathBuf], name: &str) -> anyhow::Result<Self> {
        let registry = SliRegistry::default();
        let specs = agent_sre::slo::load(objectives, &registry)?;
        let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
        let names = names.join("`, `");
        let spec = specs.into_iter().find(|spec| spec.name == name);
        let spec = spec.with_context(|| format!("found no objective `{name}`, expected `{names}`"))?;
        if spec.composite.is_some() {
            bail!("`{name}`: found a composite objective, expected one of those that it is made of");
        }
        // An error in the spec is reported before the input is read.
        Slo::from_spec(&spec, "", &registry)?;
        Ok(Self { spec, registry, by_agent: HashMap::new(), counted: BTreeMap::new() })
    }

    fn count(&mut self, event: &AgentEvent) {
        if !self.by_agent.contains_key(&event.agent) {
            let agent = self.spec.service().unwrap_or(&event.agent);
            let Ok(slo) = Slo::from_spec(&self.spec, agent, &self.registry) else { return };
            self.by_agent.insert(event.agent.clone(), slo);
        }
        let good = self.by_agent[&event.agent].record(event);
        if let Some((good, span)) = good.zip(Span::of(event)) {
            let counted = self.counted.entry(span.trace_id).or_default();
            *(if good { &mut counted.good } else { &mut counted.bad }) += 1;
        }
    }
}

impl<'a> Row<'a> {
    fn of(tree: &'a TraceTree, counted: Option<Counted>) -> Self {
        let spans = || tree.nodes.iter().map(|node| &node.span);
        Self {
            trace_id: tree.trace_id,
            start: tree.start,
            duration_ms: tree.duration().as_nanos() as f64 / 1e6,
            name: spans().next().map_or("", |span| &span.name),
            agent: spans().find_map(|span| span.agent.as_deref()),
            task: spans().find_map(|span| span.task.as_deref()),
            spans: tree.nodes.len(),
            errors: tree.errors,
            retries: tree.retries,
            broken_hops: tree.broken_hops.len(),
            cost_usd: tree.cost_usd,
            input_tokens: tree.input_tokens,
            output_tokens: tree.output_tokens,
            counted,
        }
    }
}

fn table(rows: &[(Row<'_>, &TraceTree)]) -> Table {
    let has_counts = rows.iter().any(|(row, _)| row.counted.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let bad = has_counts.then_some("bad");
    table.set_header(["start", "trace", "agent", "task"].into_iter().chain(bad).chain(["total"]));
    for (row, tree) in rows {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let cells = [row.start.to_string(), row.trace_id.to_string(), text(row.agent), text(row.task)];
        let bad = row.counted.map(|counted| counted.bad.to_string());
        table.add_row(cells.into_iter().chain(bad).chain([tree.summary()]));
    }
    table
}
