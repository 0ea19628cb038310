use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use agent_sre::alerts::default_mapping;
use agent_sre::event::TaskFinished;
use agent_sre::prometheus::PrometheusExporter;
use agent_sre::slo::{SliRegistry, SloEngine, SloSpec};
use agent_sre::{
    AgentEvent, Alert, Event, Format, Hub, Observer, RunLimits, Signal, SloSnapshot, Snapshot, Status, Tally,
    Timestamp, Totals, Window, lock,
};
use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::breakers::{BreakerFindings, Breakers};
use crate::costs::{CostFindings, Costs};
use crate::input::{self, InputStats};
use crate::timeline::Timelines;
use crate::{notify, report};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Objectives: YAML files, or folders of them.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    slo: Vec<PathBuf>,
    /// What the input is.
    #[arg(long, value_parser = input::formats())]
    from: Format,
    /// Files with a record a line (OTLP also: the protobuf body of a request), or `-` for the standard input.
    #[arg(required_unless_present = "slo")]
    input: Vec<PathBuf>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Exit with 1 when an objective is this bad.
    #[arg(long, value_enum, default_value_t = FailOn::Critical)]
    fail_on: FailOn,
    /// Whose events these are, whatever the input says.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// A task that has not ended after this long counts as failed.
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    task_timeout: Window,
    /// Say when the circuit breakers of this file would have opened.
    #[arg(long, value_name = "FILE")]
    breakers: Option<PathBuf>,
    /// Price the models' calls that have no cost by this file: LiteLLM's price map as JSON, or our own YAML.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Say what the cost limits of this file would have allowed.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Send what was found to the channels of this file, and wait until it is delivered.
    #[arg(long, value_name = "FILE")]
    notify: Option<PathBuf>,
    /// Make a malformed line an error instead of passing over it.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A report for people.
    Text,
    /// The same for programs.
    Json,
    /// Metrics in Prometheus' text format.
    Prometheus,
    /// Metrics as OpenMetrics.
    Openmetrics,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Warning,
    Critical,
    Exhausted,
    Never,
}

impl FailOn {
    fn is_reached_by(self, status: Status) -> bool {
        match self {
            Self::Warning => status >= Status::Warning,
            Self::Critical => status >= Status::Critical,
            Self::Exhausted => status >= Status::Exhausted,
            Self::Never => false,
        }
    }
}

/// What a check found.
#[derive(serde::Serialize)]
pub(crate) struct Findings {
    pub(crate) slos: Vec<SloSnapshot>,
    pub(crate) totals: Totals,
    pub(crate) input: InputStats,
    #[serde(flatten)]
    pub(crate) breakers: Option<BreakerFindings>,
    #[serde(flatten)]
    pub(crate) costs: Option<CostFindings>,
    #[serde(skip)]
    pub(crate) timelines: Timelines,
    #[serde(skip)]
    pub(crate) evaluated_at: Timestamp,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.tell_input_from_objectives()?;
    let registry = SliRegistry::default();
    let specs = agent_sre::slo::load(&args.slo, &registry)?;
    if specs.is_empty() {
        bail!("found no objective in {}, expected at least one", args.slo[0].display());
    }
    let actions: BTreeMap<String, String> = specs.iter().map(|spec| (spec.name.clone(), action(spec))).collect();
    let engine = Arc::new(SloEngine::new(specs, registry)?);
    let findings = read(&args, engine)?;
    print(args.output, &findings).context("cannot write the report")?;
    if let Some(path) = &args.notify {
        let failures = notify::send(path, &findings.alerts(&actions))?;
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
    }
    let failed = findings.slos.iter().any(|slo| args.fail_on.is_reached_by(slo.status));
    Ok(ExitCode::from(u8::from(failed)))
}

/// What an objective asks for when its budget is spent.
fn action(spec: &SloSpec) -> String {
    let policy = spec.error_budget_policy.as_ref();
    policy.and_then(|policy| policy.exhaustion_action).unwrap_or_default().to_string()
}

impl Findings {
    /// An alert for every objective: of trouble where it is in trouble, else of the end of what was sent before.
    fn alerts(&self, actions: &BTreeMap<String, String>) -> Vec<Alert> {
        let signal = |slo: &SloSnapshot| {
            let action = actions.get(&slo.name).cloned().unwrap_or_default();
            slo.status_changed(Status::Unknown, action, self.evaluated_at)
        };
        self.slos.iter().filter_map(|slo| default_mapping(&signal(slo))).collect()
    }
}

fn read(args: &Args, engine: Arc<SloEngine>) -> anyhow::Result<Findings> {
    let counts = Arc::new(Counting::default());
    let breakers = args.breakers.as_deref().map(Breakers::load).transpose()?;
    let costs = Costs::load(args.prices.as_deref(), args.limits.as_deref())?;
    let mut hub = Hub::builder().observe(engine).observe(counts.clone());
    if let Some(costs) = &costs {
        hub = hub.observe(costs.clone());
    }
    if let Some(breakers) = &breakers {
        hub = hub.observe(breakers.clone());
    }
    let hub = hub.build();
    let mut adapter = args.from.adapter(RunLimits { task_timeout: args.task_timeout.duration(), ..Default::default() });
    let mut latest = Timestamp::default();
    let mut events = 0;
    let mut take = |mut event: AgentEvent| {
        if let Some(agent) = &args.agent {
            event.agent.clone_from(agent);
        }
        if let Some(costs) = &costs {
            costs.pricing.price(&mut event);
        }
        latest = latest.max(event.time);
        events += 1;
        hub.record(&event);
    };
    let mut input = input::read(&args.input, args.strict, &mut *adapter, &mut take)?;
    adapter.finish(&mut take);
    if hub.observer_panics() > 0 {
        bail!(
            "an engine panicked over {} events: the report would be wrong, and this is a bug of ours",
            hub.observer_panics()
        );
    }
    let stats = adapter.stats();
    (input.events, input.unknown, input.unmatched) = (events, stats.unknown, stats.unmatched);
    if input.lines > 0 && input.events == 0 {
        bail!("found no event in the input (lines: {}), expected some: is `--from` right?", input.lines);
    }
    let mut findings = Findings {
        slos: Vec::new(),
        totals: Totals::default(),
        input,
        costs: costs.map(|costs| costs.findings()),
        breakers: breakers.map(|breakers| breakers.findings(latest)),
        timelines: Timelines::default(),
        evaluated_at: latest,
    };
    for snapshot in hub.snapshots(latest) {
        match snapshot {
            Snapshot::Slo(slo) => findings.slos.push(*slo),
            Snapshot::Totals(totals) => findings.totals = totals,
            _ => {}
        }
    }
    findings.timelines = std::mem::take(&mut lock(&counts.0).1);
    Ok(findings)
}

impl Args {
    /// `--slo` takes several values, so input that follows it at once ends up there: what is neither YAML nor a folder.
    fn tell_input_from_objectives(&mut self) -> anyhow::Result<()> {
        if self.input.is_empty() {
            let is_yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            let first_input = self.slo.iter().skip(1).position(|path| !is_yaml(path) && !path.is_dir());
            let Some(first_input) = first_input else { bail!("found no INPUT, expected files or `-`") };
            self.input = self.slo.split_off(first_input + 1);
        }
        Ok(())
    }
}

/// Adds up the totals, and keeps the course of each agent's errors.
#[derive(Default)]
struct Counting(Mutex<(Tally, Timelines)>);

impl Observer for Counting {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        let (tally, timelines) = &mut *lock(&self.0);
        tally.observe(event);
        if let Event::TaskFinished(TaskFinished { success, .. }) = event.event {
            timelines.record(&event.agent, event.time, success);
        }
    }

    fn snapshot(&self, _now: Timestamp) -> Vec<Snapshot> {
        let counts = lock(&self.0);
        vec![Snapshot::Totals(counts.0.totals().clone())]
    }
}

fn print(output: Output, findings: &Findings) -> anyhow::Result<()> {
    if output == Output::Text {
        return Ok(report::text(findings, &mut anstream::stdout().lock())?);
    }
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut stdout, findings).map_err(std::io::Error::from)?;
        writeln!(stdout)?;
    } else {
        let mut exporter = PrometheusExporter::new();
        findings.slos.iter().for_each(|slo| exporter.export_slo(slo));
        exporter.export_totals(&findings.totals);
        let text = if output == Output::Prometheus { exporter.render() } else { exporter.render_openmetrics() };
        stdout.write_all(text.as_bytes())?;
    }
    stdout.flush()?;
    Ok(())
}
