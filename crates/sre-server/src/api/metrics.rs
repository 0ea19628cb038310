use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_sre::prometheus::{InvalidMetric, PrometheusExporter};
use agent_sre::{Clock, Observer, SystemClock, lock};
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, header};

use super::Context;

/// Everything for Prometheus, in the form it asks for.
pub(crate) async fn metrics(State(context): State<Arc<Context>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let exporter = collect(&context);
    if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], exporter.render_openmetrics());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exporter.render())
}

/// Names that are written here cannot be wrong in any other way than by a mistake of ours, which tests would see.
fn put(result: Result<(), InvalidMetric>) {
    debug_assert!(result.is_ok(), "{result:?}");
}

fn collect(context: &Context) -> PrometheusExporter {
    let shared = &context.shared;
    let engines = shared.engines();
    let now = SystemClock.now();
    let mut exporter = PrometheusExporter::new();
    exporter.export(&engines.hub.snapshots(now));
    exporter.export(&engines.alerts.snapshot(now));
    let own = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let counts = &shared.counts;
    let journal = &shared.journal;
    for (name, value, help) in [
        ("sre_server_batches_total", own(&counts.batches), "Requests that were taken in."),
        ("sre_server_repeated_batches_total", own(&counts.repeated_batches), "Requests that had come before."),
        ("sre_server_records_total", own(&counts.records), "Spans, lines and log records that came."),
        ("sre_server_events_total", own(&counts.events), "Agent events that came of them."),
        ("sre_server_rejected_total", own(&counts.rejected), "Records that could not be read."),
        ("sre_server_ahead_total", own(&counts.ahead), "Events from the future."),
        ("sre_server_unused_total", own(&shared.unused), "Metric points and log records that are of no use here."),
        ("sre_server_refused_total", own(&shared.refused), "Requests refused because too much was under way."),
        ("sre_server_journal_entries_total", own(&journal.last), "Entries ever written to the journal."),
        ("sre_server_journal_failures_total", own(&journal.failures), "Times that the journal could not be written."),
        ("sre_server_engine_panics_total", engines.hub.observer_panics() as f64, "Times that an engine panicked."),
    ] {
        put(exporter.inc_counter(name, value, &[], help));
    }
    for (format, stats) in &*lock(&shared.adapters) {
        let of = [("format", format.as_str())];
        put(exporter.set_gauge(
            "sre_server_open_runs",
            stats.open_runs as f64,
            &of,
            "Runs that have begun and not ended.",
        ));
        for (name, value, help) in [
            ("sre_server_evicted_runs_total", stats.evicted_runs, "Runs closed early because too many were open."),
            ("sre_server_unknown_total", stats.unknown, "Records of a kind that is not known."),
            ("sre_server_unmatched_total", stats.unmatched, "Records that belong to no open run."),
            ("sre_server_repeated_total", stats.repeated, "Spans that had come before."),
        ] {
            put(exporter.inc_counter(name, value as f64, &of, help));
        }
    }
    for (name, value, help) in [
        ("sre_server_journal_bytes", own(&journal.bytes), "What the journal holds."),
        (
            "sre_server_journal_waiting",
            own(&journal.last) - own(&journal.covered),
            "Entries that the last snapshot does not cover.",
        ),
        ("sre_server_up_seconds", now.since(shared.started).as_secs_f64(), "Since it was started."),
        (
            "sre_server_files_wrong",
            f64::from(u8::from(lock(&shared.rules_error).is_some())),
            "1 where the files that the settings name cannot be used, and those from before are.",
        ),
    ] {
        put(exporter.set_gauge(name, value, &[], help));
    }
    exporter
}
