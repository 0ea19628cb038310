use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::alerts::{AlertManager, NotifyConfig};
use agent_sre::http::Client;
use agent_sre::sqlite::SqliteAlertStore;
use agent_sre::{Alert, ChannelSnapshot, RetryPolicy};
use anyhow::Context;

/// A command retries for some seconds only, or for longer where the receiver requests it.
const RETRY: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(500), longest: Duration::from_secs(5), attempts: 5 };
/// How long a command waits for its deliveries.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Loads a channels file, with an HTTP client and the retry policy of a command.
pub(crate) fn load(path: &Path) -> anyhow::Result<NotifyConfig> {
    let mut config = NotifyConfig::load(path)?;
    config.options.http = Arc::new(Client::new(agent_sre::http::Options::default())?);
    config.options.retry = RETRY;
    Ok(config)
}

/// Sends alerts to the channels of a file, waits until they are delivered or given up, and returns a message per failure.
pub(crate) fn send(path: &Path, alerts: &[Alert]) -> anyhow::Result<Vec<String>> {
    let mut config = load(path)?;
    if let Some(history) = &config.history {
        config.options.store = Some(Arc::new(SqliteAlertStore::open(history)?));
    }
    deliver(config.start().with_context(|| path.display().to_string())?, alerts)
}

/// Sends alerts, waits until they are delivered or given up, and returns a message per failure.
pub(crate) fn deliver(manager: AlertManager, alerts: &[Alert]) -> anyhow::Result<Vec<String>> {
    manager.send_all(alerts.to_vec());
    manager.flush(FLUSH_TIMEOUT);
    let stats = manager.stats();
    let mut failures: Vec<String> = stats.channels.iter().filter_map(failure).collect();
    if stats.store_failures > 0 {
        failures.push("the alert history could not be written".to_owned());
    }
    manager.shutdown(Duration::ZERO);
    Ok(failures)
}

fn failure(channel: &ChannelSnapshot) -> Option<String> {
    let ChannelSnapshot { name, queued, delayed, delivered, failed, last_error, .. } = channel;
    let undelivered = queued + delayed + failed;
    let all = undelivered + delivered;
    (undelivered > 0).then(|| format!("channel `{name}`: {undelivered} of {all} not delivered: {last_error}"))
}
