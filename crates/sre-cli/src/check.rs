use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use agent_sre::adapter::IngestLimits;
use agent_sre::event::TaskFinished;
use agent_sre::private::lock;
use agent_sre::prometheus::PrometheusExporter;
use agent_sre::slo::{SliRegistry, SloEngine, SloSpec};
use agent_sre::{
    AgentEvent, AgentTotals, Clock, CostAlert, EngineSettings, Event, EventKind, ExhaustionAction, FailOn, ManualClock,
    Observe, Phase, RunLimits, Runtime, Signal, SignalKind, Window,
};
use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::arguments::EngineFiles;
use crate::breakers::BreakerFindings;
use crate::costs::CostFindings;
use crate::findings::Findings;
use crate::input::{Input, InputFormat};
use crate::services_without_events::ServicesWithoutEvents;
use crate::timeline::Timelines;
use crate::{arguments, input, is_closed_pipe, notify, report};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Objectives: YAML files, or folders of them.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    slo: Vec<PathBuf>,
    /// The format of the input.
    #[arg(long, value_parser = input::formats(), default_value = "auto", value_name = "FORMAT")]
    from: InputFormat,
    /// Files with one record per line (for OTLP also the protobuf body of a request), or `-` for standard input.
    #[arg(required_unless_present = "slo")]
    input: Vec<PathBuf>,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Exit with 1 if an objective has this status or a worse one.
    #[arg(long, value_parser = arguments::fail_on(), default_value_t, value_name = "STATUS")]
    fail_on: FailOn,
    /// Attribute all events to this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The time after which an unfinished task counts as failed.
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    task_timeout: Window,
    #[command(flatten)]
    engines: EngineFiles,
    /// Send alerts about the result to the channels of this file, and wait until they are delivered.
    #[arg(long, value_name = "FILE")]
    notify: Option<PathBuf>,
    /// Fail on a malformed line instead of skipping it, and on an objective whose service has no event instead of warning.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A report for humans.
    Text,
    /// The same as JSON, for programs.
    Json,
    /// Metrics in the Prometheus text format.
    Prometheus,
    /// Metrics as OpenMetrics.
    Openmetrics,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.separate_input_from_slo()?;
    let registry = SliRegistry::default();
    let specs = agent_sre::slo::load(&args.slo, &registry)?;
    let actions: BTreeMap<String, ExhaustionAction> =
        specs.iter().map(|spec| (spec.name.clone(), spec.exhaustion_action())).collect();
    let (findings, runtime) = read(&args, specs)?;
    match print(args.output, &findings, &runtime) {
        // The exit code counts even if the reader closed the pipe, as in `sre check … | head`.
        Err(error) if is_closed_pipe(&error) => {}
        printed => printed.context("cannot write the report")?,
    }
    if args.strict && !findings.warnings.is_empty() {
        bail!("{}", findings.warnings.join("\n"));
    }
    for warning in &findings.warnings {
        errln!("{}warning:{} {warning}", report::style::WARNING, report::style::PLAIN);
    }
    if let Some(path) = &args.notify {
        let failures = notify::send(path, &findings.alerts(&actions))?;
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
    }
    let failed = findings.slos.iter().any(|slo| args.fail_on.is_reached_by(slo.status));
    Ok(ExitCode::from(u8::from(failed)))
}

/// Collects what the signals of breakers and budgets report.
#[derive(Default)]
struct SignalCollector {
    breakers: BreakerFindings,
    /// The first [`MAX_COST_ALERTS`] alerts.
    costs: Vec<CostAlert>,
    /// The last signal of each incident, to skip those that are re-sent.
    last: HashMap<String, Signal>,
}

const MAX_COST_ALERTS: usize = 1_000;

impl SignalCollector {
    fn record(&mut self, signal: Signal) {
        if signal.phase != Phase::OneOff {
            let last = self.last.insert(signal.key.clone(), signal.clone());
            if last.is_some_and(|last| signal.repeats(&last)) {
                return;
            }
        }
        self.breakers.record(&signal);
        if let SignalKind::Cost(alert) = signal.kind
            && self.costs.len() < MAX_COST_ALERTS
        {
            self.costs.push(alert);
        }
    }
}

/// What the adapter has made of the input.
struct Received {
    events: u64,
    services: ServicesWithoutEvents,
}

impl Received {
    fn record(&mut self, event: &AgentEvent) {
        self.events += u64::from(event.event.kind() != EventKind::SpanFinished);
        self.services.record(&event.agent);
    }
}

/// Returns the settings of the engines that the options select; `clock` follows the time of the events.
fn engine_settings(args: &Args, specs: Vec<SloSpec>, clock: Arc<ManualClock>) -> anyhow::Result<EngineSettings> {
    let mut settings = EngineSettings {
        clock,
        slos: specs,
        // The events are of the past.
        takes_actions: false,
        ..EngineSettings::default()
    };
    settings.use_public_prices();
    args.engines.load(&mut settings)?;
    Ok(settings)
}

fn read(args: &Args, specs: Vec<SloSpec>) -> anyhow::Result<(Findings, Runtime)> {
    let clock = Arc::new(ManualClock::default());
    let received = Arc::new(Mutex::new(Received { events: 0, services: ServicesWithoutEvents::of(&specs) }));
    let settings = engine_settings(args, specs, clock.clone())?;
    let mut input = Input::new(&args.input);
    let format = input.format(args.from)?;
    let limits = RunLimits { task_timeout: args.task_timeout.duration(), ..Default::default() };
    let (raised, timelines) = (Arc::new(Mutex::new(SignalCollector::default())), Arc::new(EventTimelines::default()));
    let (seen, latest, counts, agent) = (raised.clone(), clock.clone(), received.clone(), args.agent.clone());
    let runtime = Runtime::builder()
        .adapter(format.as_str(), format.adapter(limits))
        .adapter_stage(move |_, event| {
            if let Some(agent) = &agent {
                event.agent.clone_from(agent);
            }
            lock(&counts).record(event);
            latest.set(latest.now().max(event.time));
            true
        })
        .engines(&settings)?
        .observe(timelines.clone())
        .tap(Arc::new(move |signal| lock(&seen).record(signal)))
        .build()?;
    let limits = IngestLimits::default();
    let mut ingest = |record: &[u8]| runtime.ingest_record(format.as_str(), record, &limits);
    let mut input = input.read_records(args.strict, &mut ingest)?;
    runtime.finish();
    let latest = clock.now();
    runtime.evaluate(latest);
    if runtime.panics() > 0 {
        bail!(
            "an adapter or an engine panicked {} times, so the report would be wrong; please report this bug",
            runtime.panics()
        );
    }
    let received = lock(&received);
    input.events = received.events;
    for (_, stats) in runtime.adapter_stats() {
        (input.unknown, input.unmatched) = (stats.unknown, stats.unmatched);
    }
    if input.lines > 0 && input.events == 0 {
        bail!("no event in {} lines of input; is `--from` right?", input.lines);
    }
    let raised = std::mem::take(&mut *lock(&raised));
    let costs = CostFindings::of(&runtime, raised.costs, settings.prices_as_of, latest);
    let totals = runtime.get::<AgentTotals>();
    let agents: Vec<String> = totals.iter().flat_map(|totals| totals.agents()).map(|report| report.agent).collect();
    let findings = Findings {
        slos: runtime.get::<SloEngine>().map(|engine| engine.snapshots(latest)).unwrap_or_default(),
        totals: totals.map(|totals| totals.totals()).unwrap_or_default(),
        input,
        warnings: received.services.warnings(&agents),
        costs,
        breakers: settings.breakers.is_some().then_some(raised.breakers),
        timelines: std::mem::take(&mut *lock(&timelines.0)),
        evaluated_at: latest,
    };
    Ok((findings, runtime))
}

impl Args {
    /// Moves input files out of `slo`: `--slo` takes several values, so files that directly follow it end up there. The first
    /// one that is neither YAML nor a folder begins the input.
    fn separate_input_from_slo(&mut self) -> anyhow::Result<()> {
        if self.input.is_empty() {
            let is_yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            let first_input = self.slo.iter().skip(1).position(|path| !is_yaml(path) && !path.is_dir());
            let Some(first_input) = first_input else { bail!("no INPUT given; pass files or `-`") };
            self.input = self.slo.split_off(first_input + 1);
        }
        Ok(())
    }
}

/// Records the error ratio of each agent over time.
#[derive(Default)]
struct EventTimelines(Mutex<Timelines>);

impl Observe for EventTimelines {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        if let Event::TaskFinished(TaskFinished { success, .. }) = event.event {
            lock(&self.0).record(&event.agent, event.time, success);
        }
    }
}

fn print(output: Output, findings: &Findings, runtime: &Runtime) -> anyhow::Result<()> {
    if output == Output::Text {
        return Ok(report::text(findings, &mut anstream::stdout().lock())?);
    }
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut stdout, findings).map_err(std::io::Error::from)?;
        writeln!(stdout)?;
    } else {
        let mut exporter = PrometheusExporter::new();
        exporter.collect(runtime, findings.evaluated_at)?;
        let text = if output == Output::Prometheus { exporter.render() } else { exporter.render_openmetrics() };
        stdout.write_all(text.as_bytes())?;
    }
    stdout.flush()?;
    Ok(())
}
