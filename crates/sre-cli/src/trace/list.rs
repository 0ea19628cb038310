use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use agent_sre::slo::{SliRegistry, Slo, SloSpec};
use agent_sre::trace::{TraceSummary, TraceTree};
use agent_sre::{AgentEvent, EventSpan, TraceId};
use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::kept::{KeptRow, KeptTraces, ServiceArgs};
use super::recorded;
use crate::input::RecordingArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    #[command(flatten)]
    service: ServiceArgs,
    /// Objectives: a YAML file, or a folder of them; may be repeated.
    #[arg(long, requires = "slo", conflicts_with = "url", value_name = "FILE_OR_DIR")]
    objectives: Vec<PathBuf>,
    /// Only the traces with events that this objective or one of its latency indicators counts; with `--url`, those that spent a budget
    /// of it.
    #[arg(long, value_name = "NAME")]
    slo: Option<String>,
    /// Only the traces that spent a budget of the objective: with events that are bad by it, or slower than the target of one of its
    /// latency indicators. The service keeps no others.
    #[arg(long)]
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
struct Row {
    #[serde(flatten)]
    trace: TraceSummary,
    #[serde(flatten)]
    counted: Option<Counted>,
}

/// The events that an objective counts, and those that took longer than one of its latency indicators allows.
#[derive(Clone, Copy, Default, Serialize)]
struct Counted {
    good: u64,
    bad: u64,
    slow: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.service.url {
        Some(url) => {
            let service = KeptTraces::of(url, args.service.token)?;
            let kept = service.list(args.slo.as_deref(), None)?;
            if let Some(slo) = args.slo.as_deref().filter(|_| kept.is_empty()) {
                service.require_objective(slo)?;
            }
            let columns = |row: &KeptRow| {
                (
                    row.trace.clone(),
                    vec![("objective", row.slo.clone()), ("bad", row.bad.to_string()), ("slow", row.slow.to_string())],
                )
            };
            print_rows(&kept, args.output, columns)
        }
        None => list_recorded(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn list_recorded(args: &Args) -> anyhow::Result<()> {
    let recording = &args.recording;
    if args.slo.is_some() && args.objectives.is_empty() {
        bail!("`--slo`: expected `--objectives` with it, which has the objective");
    }
    if args.bad && args.slo.is_none() {
        bail!("`--bad`: expected `--slo` with it");
    }
    let mut judge = args.slo.as_deref().map(|name| Judge::new(&args.objectives, name)).transpose()?;
    let spans = match &mut judge {
        Some(judge) => recorded::spans(recording, Some(&mut |event| judge.count(event)))?,
        None => recorded::spans(recording, None)?,
    };
    let trees = TraceTree::build(spans);
    if trees.is_empty() {
        bail!("found no spans in the input");
    }
    let (counted, tasks) = judge.map(|judge| (judge.counted, judge.tasks)).unzip();
    let is_listed = |row: &Row| match row.counted {
        Some(Counted { good, bad, slow }) => bad > 0 || slow > 0 || (good > 0 && !args.bad),
        None => counted.is_none(),
    };
    let rows = trees.iter().map(|tree| {
        let counted = counted.as_ref().and_then(|counted| counted.get(&tree.trace_id)).copied();
        let mut trace = TraceSummary::from(tree);
        if let Some((agent, task)) = tasks.as_ref().and_then(|tasks| tasks.get(&tree.trace_id)) {
            (trace.agent, trace.task) = (Some(agent.clone()), Some(task.clone()));
        }
        Row { trace, counted }
    });
    let rows: Vec<Row> = rows.filter(is_listed).collect();
    let columns = |row: &Row| {
        let own = |Counted { bad, slow, .. }| vec![("bad", bad.to_string()), ("slow", slow.to_string())];
        (row.trace.clone(), row.counted.map(own).unwrap_or_default())
    };
    print_rows(&rows, args.output, columns)?;
    if let (Output::Text, Some((counted, name))) = (args.output, counted.zip(args.slo.as_deref())) {
        let sum = |count: fn(&Counted) -> u64| counted.values().map(count).sum::<u64>();
        let (good, bad, slow) = (sum(|of| of.good), sum(|of| of.bad), sum(|of| of.slow));
        outln!("{bad} of {} events of {name} bad, {slow} slow", bad + good)?;
    }
    Ok(())
}

/// Prints rows as JSON, or as a table with columns of their own.
fn print_rows<R: Serialize>(
    rows: &[R],
    output: Output,
    columns: impl Fn(&R) -> (TraceSummary, Vec<(&'static str, String)>),
) -> anyhow::Result<()> {
    if output == Output::Json {
        outln!("{}", serde_json::to_string_pretty(rows)?)?;
    } else if let Some(first) = rows.first() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let own = columns(first).1.into_iter().map(|(name, _)| name);
        table.set_header(["start", "trace", "agent", "task"].into_iter().chain(own).chain(["total"]));
        for row in rows {
            let (trace, own) = columns(row);
            let total = trace.to_string();
            let cells = [
                trace.start.to_string(),
                trace.trace_id.to_string(),
                trace.agent.unwrap_or_default(),
                trace.task.unwrap_or_default(),
            ];
            table.add_row(cells.into_iter().chain(own.into_iter().map(|(_, value)| value)).chain([total]));
        }
        outln!("{}", table.trim_fmt())?;
    }
    Ok(())
}

/// Counts the events of each trace by an objective.
struct Judge {
    spec: SloSpec,
    registry: SliRegistry,
    by_agent: HashMap<String, Slo>,
    counted: BTreeMap<TraceId, Counted>,
    /// The agent and the task of the first event of a trace that is bad or slow.
    tasks: BTreeMap<TraceId, (String, String)>,
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
        Ok(Self { spec, registry, by_agent: HashMap::new(), counted: BTreeMap::new(), tasks: BTreeMap::new() })
    }

    fn count(&mut self, event: &AgentEvent) {
        if self.spec.service().is_some_and(|service| service != event.agent) {
            return;
        }
        if !self.by_agent.contains_key(&event.agent) {
            let Ok(slo) = Slo::from_spec(&self.spec, &event.agent, &self.registry) else { return };
            self.by_agent.insert(event.agent.clone(), slo);
        }
        let slo = &self.by_agent[&event.agent];
        let good = slo.record(event);
        let slow = slo.indicators().any(|indicator| indicator.is_slow(event));
        if good.is_none() && !slow {
            return;
        }
        let Some(EventSpan { trace_id, .. }) = EventSpan::of(event) else { return };
        let counted = self.counted.entry(trace_id).or_default();
        counted.good += u64::from(good == Some(true));
        counted.bad += u64::from(good == Some(false));
        counted.slow += u64::from(slow);
        if good == Some(false) || slow {
            let task = || (event.agent.clone(), event.task_key().into_owned());
            self.tasks.entry(trace_id).or_insert_with(task);
        }
    }
}
