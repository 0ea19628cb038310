use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent_sre::http::{Client, Options};
use agent_sre::{
    AgentEvent, Clock, ExportBatch, ExportReport, ExporterConfig, HttpClient, Metric, Resource, SystemClock,
};
use anyhow::bail;
use sre_server::Config;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Send one labelled sample to each exporter, and say what its backend answered.
    Test {
        /// The configuration of the live service.
        #[arg(long, value_name = "FILE", default_value = "sre.yaml")]
        config: PathBuf,
        /// Only the exporter of this name.
        #[arg(long, value_name = "NAME")]
        exporter: Option<String>,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Test { config, exporter } => test(&config, exporter.as_deref()),
    }
}

/// The agent of the sample.
const AGENT: &str = "sre-exporters-test";

fn test(path: &Path, only: Option<&str>) -> anyhow::Result<ExitCode> {
    let exporters = configured(path, only)?;
    let http: Arc<dyn HttpClient> = Arc::new(Client::new(Options::default())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = 0;
    for config in &exporters {
        let name = config.exporter.name();
        match runtime.block_on(send_sample(config, &*http)) {
            Ok(report) if report.rejected.is_empty() && report.retry.is_empty() => {
                let (accepted, all) = (report.accepted, report.accepted + report.ignored);
                match accepted {
                    0 => anstream::println!("{name}: nothing was sent, since the sample has no equivalent there"),
                    _ => anstream::println!("{name}: accepted {accepted} of {all} records"),
                }
            }
            Ok(report) => {
                failed += 1;
                let rejected = report
                    .rejected
                    .iter()
                    .map(|rejection| format!("{} rejected: {}", rejection.count, rejection.reason));
                let refused = Some(report.retry.len()).filter(|refused| *refused > 0);
                let refused = refused.map(|refused| format!("{refused} refused for now"));
                anstream::eprintln!("{name}: {}", rejected.chain(refused).collect::<Vec<_>>().join(", "));
            }
            Err(error) => {
                failed += 1;
                anstream::eprintln!("{name}: {error:#}");
            }
        }
    }
    Ok(ExitCode::from(if failed > 0 { 2 } else { 0 }))
}

/// Returns the exporters of a configuration, or the one of a name.
pub(crate) fn configured(path: &Path, only: Option<&str>) -> anyhow::Result<Vec<ExporterConfig>> {
    let mut exporters = Config::load(path)?.exporters;
    let names: Vec<String> = exporters.iter().map(|config| config.exporter.name().to_owned()).collect();
    if let Some(only) = only {
        exporters.retain(|config| config.exporter.name() == only);
        if exporters.is_empty() {
            bail!("{}: found no exporter `{only}`, expected one of {}", path.display(), names.join(", "));
        }
    }
    if exporters.is_empty() {
        bail!("{}: found no exporters, expected a list `exporters`", path.display());
    }
    Ok(exporters)
}

/// Sends a task with a model call, and a metric, each in the batch that an outbox would make of it.
async fn send_sample(config: &ExporterConfig, http: &dyn HttpClient) -> anyhow::Result<ExportReport> {
    let now = SystemClock.now();
    let event = |json: String| AgentEvent::from_json(json.as_bytes()).map(Arc::new);
    let (time, task) = (now.to_string(), format!("sample-{}", now.as_nanos()));
    let events = [
        event(format!(
            r#"{{"event":"llm_call","time":"{time}","agent":"{AGENT}","task":"{task}","model":"sample","input_tokens":10,"output_tokens":2,"cost_usd":"0.001","duration_ms":5}}"#
        ))?,
        event(format!(
            r#"{{"event":"task_finished","time":"{time}","agent":"{AGENT}","task":"{task}","success":true,"duration_ms":10,"attributes":{{"sample":true}}}}"#
        ))?,
    ];
    let metrics = [Metric::gauge("sre.exporter.sample", 1.0)
        .with_label("agent", AGENT)
        .with_help("A sample of `sre exporters test`.")];
    let resource: &Resource = &config.resource;
    let wants = config.exporter.wants();
    let mut report = ExportReport::default();
    if wants.metrics {
        let batch = ExportBatch::new(now, resource).with_state(&metrics, &[]);
        report = report.and(config.exporter.export(&batch, http).await?);
    }
    if wants.events {
        let batch = ExportBatch::new(now, resource).with_events(&events);
        report = report.and(config.exporter.export(&batch, http).await?);
    }
    Ok(report)
}
