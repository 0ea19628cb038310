use crate::{Alert, Timestamp, Usd};

/// Where alerts and their deliveries are kept, so that a restart loses none.
pub trait AlertStore: Send + Sync {
    /// Writes an alert with a pending delivery to each of `channels`, in one transaction; returns the alert's id.
    fn append(&self, alert: &Alert, channels: &[String], at: Timestamp) -> Result<u64, StoreError>;

    /// Records how a delivery went.
    fn record_delivery(
        &self,
        alert: u64,
        channel: &str,
        state: &DeliveryState,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// The deliveries that are still pending, oldest first, at most `limit`.
    fn pending(&self, limit: usize) -> Result<Vec<(u64, String, Alert)>, StoreError>;
}

/// How far a delivery has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent, or to be sent again.
    Pending,
    /// The channel took it.
    Delivered,
    /// Given up, and why.
    Failed(String),
}

/// Where spending is kept, so that a restart keeps the day's and the month's.
pub trait LedgerStore: Send + Sync {
    /// Adds one amount.
    fn append(&self, entry: &LedgerEntry) -> Result<(), StoreError>;

    /// What `agent` (everybody, where `None`) spent from `from` on, until before `until`.
    fn spent(&self, agent: Option<&str>, from: Timestamp, until: Timestamp) -> Result<Usd, StoreError>;
}

/// One amount that an agent spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// When.
    pub time: Timestamp,
    /// Who.
    pub agent: String,
    /// On which task; may be empty.
    pub task: String,
    /// How much.
    pub amount: Usd,
}

/// A store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {reason}")]
pub struct StoreError {
    /// Which store: its file or address, without secrets.
    pub store: String,
    /// What went wrong, and what to mend.
    pub reason: String,
}
