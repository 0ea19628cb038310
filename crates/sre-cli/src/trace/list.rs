use std::collections::HashMap;
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
    /// Only the tasks that spent a budget of the objective: with events that are bad by it, or slower than the target of one of its
    /// latency indicators. The service keeps the traces of no others.
    #[arg(long)]
    bad: bool,
    /// The output format.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table with a line for each trace, or for each task of `--bad`.
    Text,
    /// A list of objects.
    Json,
}

/// A trace in the list, or a task in it.
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
    let rows = trees.iter().flat_map(|tree| match &judge {
        Some(judge) => judge.rows(tree, args.bad),
        None => vec![Row { trace: TraceSummary::from(tree), counted: None }],
    });
    let rows: Vec<Row> = rows.collect();
    let columns = |row: &Row| {
        let own = |Counted { bad, slow, .. }| vec![("bad", bad.to_string()), ("slow", slow.to_string())];
        (row.trace.clone(), row.counted.map(own).unwrap_or_default())
    };
    print_rows(&rows, args.output, columns)?;
    if let (Output::Text, Some(judge)) = (args.output, judge) {
        let Counted { good, bad, slow } = Counted::sum(judge.tasks.values().flatten());
        outln!("{bad} of {} events of {} bad, {slow} slow", bad + good, judge.spec.name)?;
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
    /// The tasks of each trace, in the order of their first events.
    tasks: HashMap<TraceId, Vec<CountedTask>>,
    /// Where each task of an agent in a trace is in `tasks`.
    indexes: HashMap<(TraceId, String, String), usize>,
}

/// The events of a task in a trace.
struct CountedTask {
    agent: String,
    task: String,
    counted: Counted,
}

impl Counted {
    fn sum<'a>(tasks: impl IntoIterator<Item = &'a CountedTask>) -> Self {
        tasks.into_iter().fold(Self::default(), |sum, CountedTask { counted: Self { good, bad, slow }, .. }| Self {
            good: sum.good + good,
            bad: sum.bad + bad,
            slow: sum.slow + slow,
        })
    }
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
        Ok(Self { spec, registry, by_agent: HashMap::new(), tasks: HashMap::new(), indexes: HashMap::new() })
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
        let (agent, task) = (event.agent.clone(), event.task_key().into_owned());
        let tasks = self.tasks.entry(trace_id).or_default();
        let index = *self.indexes.entry((trace_id, agent.clone(), task.clone())).or_insert(tasks.len());
        if index == tasks.len() {
            tasks.push(CountedTask { agent, task, counted: Counted::default() });
        }
        let counted = &mut tasks[index].counted;
        counted.good += u64::from(good == Some(true));
        counted.bad += u64::from(good == Some(false));
        counted.slow += u64::from(slow);
    }

    /// Returns a row for a trace with counted events, which names its first task that spent a budget, or a row for each of these tasks.
    fn rows(&self, tree: &TraceTree, by_task: bool) -> Vec<Row> {
        let Some(tasks) = self.tasks.get(&tree.trace_id) else { return Vec::new() };
        let summary = TraceSummary::from(tree);
        let row = |task: Option<&CountedTask>, counted: Counted| {
            let mut trace = summary.clone();
            if let Some(CountedTask { agent, task, .. }) = task {
                (trace.agent, trace.task) = (Some(agent.clone()), Some(task.clone()));
            }
            Row { trace, counted: Some(counted) }
        };
        let mut spent = tasks.iter().filter(|task| task.counted.bad > 0 || task.counted.slow > 0);
        match by_task {
            true => spent.map(|task| row(Some(task), task.counted)).collect(),
            false => vec![row(spent.next(), Counted::sum(tasks))],
        }
    }
}
