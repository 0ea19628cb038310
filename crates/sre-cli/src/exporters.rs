use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent_sre::http::{Client, Options};
use agent_sre::{
    AgentEvent, Clock, ExportBatch, ExportReport, ExporterConfig, HttpClient, Metric, SloSnapshot, Snapshot, Status,
    SystemClock, Timestamp, Window,
};
use anyhow::bail;
use serde_json::json;
use sre_server::Config;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Send a labelled sample of events, metrics and objectives to each exporter, and print the response of its backend.
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

/// The agent and the objective of the sample.
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
                    0 => outln!("{name}: nothing sent; the sample has no equivalent in this backend")?,
                    _ => outln!("{name}: accepted {accepted} of {all} records")?,
                }
            }
            Ok(report) => {
                failed += 1;
                let rejected = report
                    .rejected
                    .iter()
                    .map(|rejection| format!("{} rejected: {}", rejection.count, rejection.reason));
                let retry = Some(report.retry.len()).filter(|count| *count > 0);
                let retry = retry.map(|count| format!("{count} to be retried"));
                errln!("{name}: {}", rejected.chain(retry).collect::<Vec<_>>().join(", "));
            }
            Err(error) => {
                failed += 1;
                errln!("{name}: {error:#}");
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
        bail!("{}: no `exporters` configured", path.display());
    }
    Ok(exporters)
}

/// Sends events, a metric and an objective, as far as the exporter wants them, in the batches that an outbox would make of
/// them.
async fn send_sample(config: &ExporterConfig, http: &dyn HttpClient) -> anyhow::Result<ExportReport> {
    let ExporterConfig { exporter, resource, .. } = config;
    let (now, wants) = (SystemClock.now(), exporter.wants());
    let events = if wants.events { sample_events(now)? } else { Vec::new() };
    let metric = Metric::gauge("sre.exporter.sample", 1.0).with_label("agent", AGENT);
    let metrics = [metric.with_help("A sample of `sre exporters test`.")];
    let metrics = if wants.metrics { &metrics[..] } else { &[] };
    let snapshots = [Snapshot::Slo(Box::new(sample_objective()))];
    let snapshots = if wants.snapshots { &snapshots[..] } else { &[] };
    let mut report = ExportReport::default();
    for batch in [
        ExportBatch::new(now, resource).with_state(metrics, snapshots),
        ExportBatch::new(now, resource).with_events(&events),
    ] {
        if !batch.is_empty() {
            report = report.and(exporter.export(&batch, http).await?);
        }
    }
    Ok(report)
}

/// Returns a task with a model call and an evaluation. They name a request in Helicone, which takes no events without one.
fn sample_events(now: Timestamp) -> anyhow::Result<Vec<Arc<AgentEvent>>> {
    let task = format!("sample-{}", now.as_nanos());
    let common = json!({
        "time": now.to_string(), "agent": AGENT, "task": task, "attributes": {"sample": true, "helicone_id": task},
    });
    [
        json!({"event": "llm_call", "model": "sample", "input_tokens": 10, "output_tokens": 2, "cost_usd": "0.001", "duration_ms": 5}),
        json!({"event": "evaluation", "metric": "sample", "score": 1.0}),
        json!({"event": "task_finished", "success": true, "duration_ms": 10}),
    ]
    .into_iter()
    .map(|mut event| {
        event.as_object_mut().into_iter().for_each(|fields| fields.extend(common.as_object().cloned().unwrap_or_default()));
        Ok(Arc::new(AgentEvent::from_json(event.to_string().as_bytes())?))
    })
    .collect()
}

/// Returns an objective that is met.
fn sample_objective() -> SloSnapshot {
    let mut slo = SloSnapshot::new(AGENT, AGENT, Window::DAY);
    slo.description = "A sample of `sre exporters test`.".to_owned();
    slo.labels.insert("sample".to_owned(), "true".to_owned());
    (slo.status, slo.target, slo.sli, slo.good) = (Status::Healthy, Some(0.95), Some(1.0), 1);
    slo.error_budget.total = Some(0.05);
    (slo.error_budget.consumed, slo.error_budget.remaining) = (Some(0.0), Some(1.0));
    slo
}
