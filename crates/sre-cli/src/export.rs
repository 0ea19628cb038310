use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::http::{Client, DropReason, Options, OutboxOptions, OutboxStats, RecordCounts};
use agent_sre::slo::SliRegistry;
use agent_sre::yaml::document;
use agent_sre::{
    AgentEvent, Clock, EngineSettings, EventKind, ExporterConfig, HttpClient, ManualClock, RunLimits, Runtime,
    Timestamp, Window, exporter_types, read_exporters,
};
use anyhow::bail;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};

use crate::input::{Input, InputFormat};
use crate::{exporters, input};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The type of the backend.
    #[arg(long, value_parser = PossibleValuesParser::new(exporter_types()), value_name = "TYPE", required_unless_present = "config")]
    to: Option<String>,
    /// The backend's URL.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// Another setting of the exporter, as in `sre.yaml`; may be repeated. `${NAME}` stands for an environment variable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting, conflicts_with = "config")]
    set: Vec<(String, String)>,
    /// Send to the exporters of this configuration of the live service.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    config: Option<PathBuf>,
    /// Objectives whose state is sent, too: YAML files, or folders of them.
    #[arg(long, value_name = "FILE_OR_DIR")]
    slo: Vec<PathBuf>,
    /// The format of the input.
    #[arg(long, value_parser = input::formats(), default_value = "auto", value_name = "FORMAT")]
    from: InputFormat,
    /// Files with one record per line (for OTLP also the protobuf body of a request), or `-` for standard input.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Attribute all events to this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// How long to wait for a backend that does not answer.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    timeout: Window,
    /// Fail on a malformed line instead of skipping it.
    #[arg(long)]
    strict: bool,
}

/// What errors name instead of a file.
const OPTIONS: &str = "--to, --url and --set";

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Exit code 0: everything was accepted; 2: something was not; standard error names it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let exporters = args.exporters()?;
    let clock = Arc::new(ManualClock::default());
    let mut settings = EngineSettings {
        clock: clock.clone(),
        // The events are of the past.
        takes_actions: false,
        ..EngineSettings::default()
    };
    settings.use_public_prices();
    if !args.slo.is_empty() {
        settings.slos = agent_sre::slo::load(&args.slo, &SliRegistry::default())?;
    }
    let http: Arc<dyn HttpClient> = Arc::new(Client::new(Options::default())?);
    let follows = clock.clone();
    let follow = move |event: &mut AgentEvent| {
        follows.set(event.time.max(follows.now()));
        true
    };
    let mut runtime = Runtime::builder().stage(Arc::new(follow)).engines(&settings)?;
    for config in &exporters {
        let options = OutboxOptions { collect_clock: Some(clock.clone()), ..config.outbox_options() };
        runtime = runtime.export(config.exporter.clone(), http.clone(), options);
    }
    let runtime = runtime.build()?;
    let interval = exporters.iter().map(|config| config.interval).min().unwrap_or_default();
    let timeout = args.timeout.duration();
    let mut input = Input::new(&args.input);
    let mut adapter = input.format(args.from)?.adapter(RunLimits::default());
    let (mut latest, mut next_reading, mut events) = (Timestamp::default(), Timestamp::default(), 0_u64);
    let mut record = |mut event: AgentEvent| {
        if let Some(agent) = &args.agent {
            event.agent.clone_from(agent);
        }
        if events == 0 {
            next_reading = event.time.saturating_add(interval);
        } else if event.time >= next_reading {
            // Metrics and the state of objectives are those of each interval of the recording.
            runtime.evaluate(latest);
            for outbox in runtime.exporters() {
                outbox.flush(timeout);
            }
            next_reading = event.time.saturating_add(interval);
        }
        latest = latest.max(event.time);
        events += u64::from(event.event.kind() != EventKind::SpanFinished);
        // A backend that does not answer for so long loses events, which is reported.
        for outbox in runtime.exporters() {
            let _ = outbox.wait_for_capacity(timeout);
        }
        runtime.record(event);
    };
    let input = input.read(args.strict, &mut *adapter, &mut record)?;
    adapter.finish(&mut record);
    if input.lines > 0 && events == 0 {
        bail!("no event in {} lines of input; is `--from` right?", input.lines);
    }
    runtime.evaluate(latest);
    let is_complete = finish(&runtime, timeout)?;
    Ok(ExitCode::from(if is_complete { 0 } else { 2 }))
}

impl Args {
    fn exporters(&self) -> anyhow::Result<Vec<ExporterConfig>> {
        let Some(kind) = &self.to else {
            let config = self.config.as_deref().expect("clap requires `--to` or `--config`");
            return exporters::configured(config, None);
        };
        let mut settings = Map::from_iter([("type".to_owned(), Value::from(kind.as_str()))]);
        settings.extend(self.url.iter().map(|url| ("url".to_owned(), Value::from(url.as_str()))));
        for (name, value) in &self.set {
            // Numbers, lists and mappings as in YAML's flow style, which JSON is a part of.
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
            settings.insert(name.clone(), value);
        }
        let list = document(&Value::Array(vec![Value::Object(settings)]).to_string(), OPTIONS, "exporters")?;
        Ok(read_exporters(&list, OPTIONS, &|name| std::env::var(name).ok())?)
    }
}

/// Waits for the exporters, and prints what each has sent. Returns whether everything was accepted.
fn finish(runtime: &Runtime, timeout: Duration) -> std::io::Result<bool> {
    let mut is_complete = true;
    for outbox in runtime.exporters() {
        outbox.flush(timeout);
        outbox.shutdown(Duration::ZERO);
        let stats = outbox.stats();
        let name = &stats.exporter;
        let OutboxStats { events, state, last_error, .. } = &stats;
        outln!(
            "{name}: sent {} of {} events, and {} of {} readings of metrics and objectives",
            events.sent,
            events.received,
            state.sent,
            state.received
        )?;
        if events.ignored + state.ignored > 0 {
            let (events, readings) = (events.ignored, state.ignored);
            outln!("{name}: skipped {events} events and {readings} readings that have no equivalent in this backend")?;
        }
        for problem in problems(events).chain(problems(state)) {
            is_complete = false;
            errln!("{name}: {problem}");
        }
        if !last_error.is_empty() {
            is_complete = false;
            errln!("{name}: {last_error}");
        }
    }
    Ok(is_complete)
}

/// Returns what was rejected or dropped, by reason.
fn problems(counts: &RecordCounts) -> impl Iterator<Item = String> {
    let rejected = counts.rejected.iter().map(|(reason, count)| format!("{count} rejected: {reason}"));
    let dropped = counts.dropped.iter().map(|(reason, count)| match reason {
        DropReason::Shutdown => format!("{count} not sent within `--timeout`"),
        reason => format!("{count} dropped: {}", reason.as_str()),
    });
    rejected.chain(dropped)
}
