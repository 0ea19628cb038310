use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use agent_sre::private::lock;
use agent_sre::prometheus::{Rendering, Scrape, Scraper, TextFormat};
use agent_sre::{Collect, Metric, MetricUnit, Timestamp};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use futures_util::stream;
use http::{HeaderMap, header};
use utoipa_axum::routes;

use super::AppRef;
use super::error::{ApiError, ErrorBody};
use super::openapi::ApiRouter;
use super::process_metrics;
use crate::app::AppState;
use crate::dropped_agents::WithoutAgents;

pub(super) fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(metrics))
}

/// The metrics, for Prometheus
///
/// In the text format, or as OpenMetrics if the `Accept` header prefers it. Scrapes at the same time share readings that are at most a
/// second old.
#[utoipa::path(
    get, path = "/metrics",
    params(("name[]" = Option<Vec<String>>, Query, description = "Only the metrics with these names; all by default.")),
    responses(
        (
            status = 200, description = "Metrics of all engines and of the service.",
            content((String = "text/plain"), (String = "application/openmetrics-text"))
        ),
        (status = 400, description = "The query is invalid.", body = ErrorBody)
    )
)]
async fn metrics(
    State(state): AppRef,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let names = query.into_iter().filter(|(key, _)| key == "name[]").map(|(_, name)| name);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_open = accept.contains("application/openmetrics-text");
    let format = if is_open { TextFormat::OpenMetrics } else { TextFormat::Prometheus };
    let metrics = state.clone();
    let readings = state.scrapes.get(Instant::now(), move |scraper| read(&metrics, scraper)).await;
    let mut rendering = Rendering::new(format).only(names);
    let chunks = std::iter::from_fn(move || readings.next_chunk(&mut rendering));
    Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(stream::iter(chunks))))
}

fn read(state: &AppState, scraper: &mut Scraper) -> Scrape {
    let (engines, settings) = (state.shared.engines(), state.settings());
    let sources = [&engines.runtime as &dyn Collect, state];
    let source = WithoutAgents { source: &sources, dropped: &settings.metrics_drop_agents };
    let (scrape, outcome) = scraper.scrape(&source, state.shared.now());
    if let Err(error) = outcome {
        tracing::error!(%error, "A metric is missing from /metrics; please report this bug");
    }
    scrape
}

/// The metrics of the service itself.
impl Collect for AppState {
    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let shared = &self.shared;
        let (counters, journal) = (&shared.counters, &shared.journal);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        for (name, value, help) in [
            ("sre.server.requests_processed", count(&counters.batches), "Requests processed."),
            (
                "sre.server.duplicate_requests",
                count(&counters.repeated_batches),
                "Requests sent again, and counted once.",
            ),
            ("sre.server.records", count(&counters.records), "Spans, lines and log records received."),
            ("sre.server.events", count(&shared.checks.events), "Agent events created from the records."),
            ("sre.server.rejected_records", count(&counters.rejected), "Records that could not be read."),
            (
                "sre.server.future_events",
                count(&shared.checks.ahead),
                "Events rejected because their time is in the future.",
            ),
            (
                "sre.server.sender_lost_events",
                count(&counters.lost_by_senders),
                "Events that senders lost before they sent them, as they report.",
            ),
            ("sre.server.unused_records", count(&shared.unused), "Metric points and log records that are not used."),
            ("sre.server.refused_requests", count(&shared.refused), "Requests refused because of load."),
            ("sre.server.journal_entries", count(&journal.last), "Entries ever written to the journal."),
            ("sre.server.journal_failures", count(&journal.failures), "Failed journal writes."),
            ("sre.server.snapshot_failures", count(&journal.snapshot_failures), "Failed writes of the state."),
            (
                "sre.server.journal_damaged",
                count(&journal.damaged),
                "Entries, snapshots and transactions of the journal that could not be read at the start.",
            ),
        ] {
            emit(Metric::counter(name, value).with_help(help));
        }
        for (agent, overlap) in lock(&shared.checks.overlaps).overlaps() {
            let of = [("agent", agent.as_str())];
            let metric = Metric::gauge("sre.server.overlapping_tasks", overlap.tasks as f64).with_labels(&of);
            emit(metric.with_help("Tasks of the agent that arrived in two formats and counted twice."));
        }
        shared.removed_exporters.emit(emit);
        self.admission.metrics(now, emit);
        self.requests.emit(emit);
        let version = Metric::gauge("sre.build_info", 1.0).with_label("version", env!("CARGO_PKG_VERSION"));
        emit(version.with_help("Always 1; the label is the version of the service."));
        process_metrics::emit(shared.started, emit);
        let is_reloaded = f64::from(u8::from(lock(&shared.config_error).is_none()));
        let loaded = lock(&shared.config_loaded).as_unix_seconds();
        let waiting = count(&journal.last) - count(&journal.covered);
        for (name, value, unit, help) in [
            ("sre.server.journal_size", count(&journal.bytes), MetricUnit::Bytes, "Size of the journal."),
            (
                "sre.server.journal_unsaved_entries",
                waiting,
                MetricUnit::None,
                "Entries that the last snapshot does not cover.",
            ),
            (
                "sre.config.last_reload_successful",
                is_reloaded,
                MetricUnit::None,
                "1 if the last reload of the configuration succeeded.",
            ),
            (
                "sre.config.last_reload_success_timestamp",
                loaded,
                MetricUnit::Seconds,
                "When the configuration was last loaded, in Unix time.",
            ),
        ] {
            emit(Metric::gauge(name, value).with_unit(unit).with_help(help));
        }
    }
}
