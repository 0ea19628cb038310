use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::{Alert, Severity, Timestamp};

/// Where alerts and their deliveries are kept, so that a restart loses none. Several processes may share one store.
pub trait AlertStore: Send + Sync {
    /// Writes alerts, each with a delivery to each of its channels, in one transaction; returns their ids, which grow.
    fn append(&self, alerts: &[NewAlert]) -> Result<Vec<AlertId>, StoreError>;

    /// Records how deliveries went, in one transaction; a delivery that is not known yet is added.
    fn record(&self, results: &[DeliveryRecord]) -> Result<(), StoreError>;

    /// Makes unfinished deliveries to `channel` this process's own, oldest first, at most `limit`: those that were
    /// [`Released`](DeliveryState::Released), and those of processes that are no longer alive. The records come without
    /// deliveries.
    fn adopt(&self, channel: &str, limit: usize) -> Result<Vec<AlertRecord>, StoreError>;

    /// The incidents that are open: of each key whose last alert is not `resolved`, that alert, oldest first. The
    /// deliveries are those of all the incident's alerts, one for each channel, a successful one where there is one.
    fn open_incidents(&self) -> Result<Vec<AlertRecord>, StoreError>;

    /// The alerts that match, newest first.
    fn query(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError>;

    /// How many alerts there are.
    fn count(&self) -> Result<u64, StoreError>;

    /// Notes that somebody has taken the open incident of a key on; false where none is open.
    fn acknowledge(&self, dedup_key: &str, by: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Who has taken the open incident of a key on, through whichever process.
    fn acknowledgement(&self, dedup_key: &str) -> Result<Option<Acknowledgement>, StoreError>;

    /// Keeps a silence, as text that only the manager understands; `None` takes it away.
    fn save_silence(&self, id: u64, text: Option<&str>) -> Result<(), StoreError>;

    /// The silences that are kept.
    fn silences(&self) -> Result<Vec<(u64, String)>, StoreError>;

    /// Deletes what `retention` does not keep, and says how many alerts. Open incidents and unfinished deliveries stay.
    fn prune(&self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError>;
}

/// What a store calls an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AlertId(pub u64);

/// An alert to be written.
#[derive(Clone, Debug)]
pub struct NewAlert {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Where it is to go, and in which state the delivery begins: `Pending`, `Released` or `Skipped`.
    pub deliveries: Vec<(Arc<str>, DeliveryState)>,
    /// When it was sent.
    pub at: Timestamp,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// This process is at work on it.
    Pending,
    /// To be sent by whoever has room for it.
    Released,
    /// The channel took it.
    Delivered,
    /// Given up.
    Failed,
    /// Not sent because it was no longer needed.
    Skipped,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Released, Self::Delivered, Self::Failed, Self::Skipped];

    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Released => "released",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// How the delivery of an alert to a channel went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// Which alert.
    #[serde(skip)]
    pub alert: AlertId,
    /// To which channel.
    pub channel: Arc<str>,
    /// How far it has come.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// The last HTTP status.
    pub status: Option<u16>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// When that came to be so.
    pub at: Timestamp,
}

/// An alert with what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertRecord {
    /// The store's name for it.
    pub id: AlertId,
    /// When it was sent.
    pub at: Timestamp,
    /// The alert.
    pub alert: Alert,
    /// Its deliveries, by channel.
    pub deliveries: Vec<DeliveryRecord>,
    /// Who took it on.
    pub acknowledged: Option<Acknowledgement>,
}

/// Somebody took an incident on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Which alerts to find; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertQuery {
    /// Only of this agent.
    pub agent_id: Option<String>,
    /// Only of this severity.
    pub severity: Option<Severity>,
    /// Only of this objective.
    pub slo_name: Option<String>,
    /// Only those sent at this time or later.
    pub since: Option<Timestamp>,
    /// Only those sent before this time.
    pub until: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// How much history to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Alerts older than this go.
    pub age: Duration,
    /// The oldest go while the store is larger than this, in bytes.
    pub size: u64,
}

impl Default for Retention {
    /// 90 days, 1 GB.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 86_400), size: 1_000_000_000 }
    }
}

/// A store that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{store}: {reason}")]
pub struct StoreError {
    /// Which store: its file or address, without secrets.
    pub store: String,
    /// What went wrong, and what to mend.
    pub reason: String,
    /// Whether another process holds it, so that it may be free later.
    pub is_locked: bool,
}
