use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::http::OutboxStats;
use tokio::sync::watch;

use crate::app::AppState;

/// Whether an exporter works, as was logged last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Ok,
    Failing,
    Halted,
}

const INTERVAL: Duration = Duration::from_secs(1);

/// Logs when an exporter begins to fail and when it recovers, until the service stops.
pub(crate) async fn log_exporters(state: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut logged = HashMap::new();
    while tokio::time::timeout(INTERVAL, stop.wait_for(|is_stopping| *is_stopping)).await.is_err() {
        let engines = state.shared.engines();
        let stats: Vec<OutboxStats> = engines.runtime.exporters().iter().map(|outbox| outbox.stats()).collect();
        drop(engines);
        for stats in &stats {
            log_change(logged.entry(stats.exporter.clone()).or_default(), stats);
        }
        logged.retain(|name, _| stats.iter().any(|stats| stats.exporter == *name));
    }
}

fn log_change(logged: &mut Health, stats: &OutboxStats) {
    let OutboxStats { exporter, last_error: error, .. } = stats;
    let health = match (stats.is_halted, error.is_empty()) {
        (true, _) => Health::Halted,
        (false, false) => Health::Failing,
        (false, true) => Health::Ok,
    };
    if health == std::mem::replace(logged, health) {
        return;
    }
    match health {
        Health::Ok => tracing::info!(exporter, "Exporter recovered"),
        Health::Failing => tracing::warn!(exporter, error, "Export failed; retrying"),
        Health::Halted => tracing::error!(
            exporter,
            error,
            "Credentials rejected by the backend; exporter stopped until the settings change"
        ),
    }
}
