use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::{Alert, Severity, StoreError, Timestamp};

/// Keeps alerts and their deliveries, so that a restart loses none.
///
/// Several processes may share one store. Each open handle is an *owner*: it owns the pending deliveries that it appended or
/// adopted, for as long as it holds its *lease*. A lease begins when the handle is opened; it ends when the handle is dropped,
/// when its process dies, and, in stores whose leases expire, when it is not renewed in time. Then other owners may adopt the
/// deliveries.
///
/// ```
/// use sre_core::{Alert, AlertStore, DeliveryRecord, DeliveryState, NewAlert, StoreError, Timestamp};
///
/// /// Stores an alert, delivers it by `deliver`, and then whatever a process that died has left.
/// fn page(store: &dyn AlertStore, alert: Alert, now: Timestamp, deliver: fn(&Alert)) -> Result<(), StoreError> {
///     let mut new = NewAlert::new(alert.into(), now);
///     new.deliveries.push(("pager".into(), DeliveryState::Pending));
///     let id = store.append(&[new.clone()])?[0];
///     deliver(&new.alert);
///     store.record(&[DeliveryRecord::new(id, "pager", DeliveryState::Delivered, now)])?;
///     for left in store.adopt("pager", 100, now)? {
///         deliver(&left.alert);
///         store.record(&[DeliveryRecord::new(left.id, "pager", DeliveryState::Delivered, now)])?;
///     }
///     Ok(())
/// }
/// ```
pub trait AlertStore: Send + Sync {
    /// Stores alerts, each with a delivery per channel, in one transaction, and returns their ids, which grow.
    fn append(&self, alerts: &[NewAlert]) -> Result<Vec<AlertId>, StoreError>;

    /// Records the results of deliveries in one transaction; a delivery that is not known yet is added.
    fn record(&self, results: &[DeliveryRecord]) -> Result<(), StoreError>;

    /// Renews this owner's lease, and returns when it expires unless it is renewed again; `None` if it does not expire while
    /// the handle is open, as is the default.
    ///
    /// An owner whose lease has expired continues its deliveries even if others have adopted them: delivery is at least
    /// once.
    fn renew_lease(&self, _now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Takes ownership of unfinished deliveries to `channel`, oldest first and at most `limit`: those that are
    /// [`Released`](DeliveryState::Released), and those whose owner's lease has ended by `now`. Returns their alerts, without
    /// deliveries.
    fn adopt(&self, channel: &str, limit: usize, now: Timestamp) -> Result<Vec<AlertRecord>, StoreError>;

    /// Returns the open incidents, oldest first: for each key whose last alert is neither `resolved` nor about a single
    /// occurrence, that alert. Its deliveries are those of all the incident's alerts, one per channel, a successful one if there is
    /// one.
    fn open_incidents(&self) -> Result<Vec<AlertRecord>, StoreError>;

    /// Returns the matching alerts, newest first.
    fn query(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError>;

    /// Returns the number of alerts.
    fn count(&self) -> Result<u64, StoreError>;

    /// Acknowledges the open incident of a key; false if none is open.
    fn acknowledge(&self, dedup_key: &str, by: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Returns the acknowledgement of the open incident of a key, made through any process.
    fn acknowledgement(&self, dedup_key: &str) -> Result<Option<Acknowledgement>, StoreError>;

    /// Saves a silence as text in the manager's own format; `None` deletes it.
    fn save_silence(&self, id: u64, text: Option<&str>) -> Result<(), StoreError>;

    /// Returns the saved silences.
    fn silences(&self) -> Result<Vec<(u64, String)>, StoreError>;

    /// Deletes alerts beyond the retention, and returns how many. Open incidents and unfinished deliveries are kept.
    fn prune(&self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError>;
}

/// Identifies an alert in a store.
///
/// Exhaustive: it is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct AlertId(pub u64);

/// An alert to be stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewAlert {
    /// The alert.
    pub alert: Arc<Alert>,
    /// The channels and the initial state of each delivery: `Pending`, `Released` or `Skipped`.
    pub deliveries: Vec<(Arc<str>, DeliveryState)>,
    /// When the alert was sent.
    pub at: Timestamp,
}

impl NewAlert {
    /// Creates an alert to be stored, without deliveries.
    pub fn new(alert: Arc<Alert>, at: Timestamp) -> Self {
        Self { alert, deliveries: Vec::new(), at }
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// Its owner is delivering it.
    Pending,
    /// It has no owner, because the queue was full.
    Released,
    /// The channel accepted it.
    Delivered,
    /// Delivery was given up.
    Failed,
    /// Not sent, because it was no longer needed.
    Skipped,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Released, Self::Delivered, Self::Failed, Self::Skipped];

    /// Returns the lower-case name.
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

/// The delivery of an alert to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct DeliveryRecord {
    /// The alert.
    #[serde(skip)]
    pub alert: AlertId,
    /// The channel's name.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub channel: Arc<str>,
    /// The state.
    pub state: DeliveryState,
    /// The number of attempts.
    pub attempts: u32,
    /// The HTTP status of the last attempt.
    pub status: Option<u16>,
    /// Why the last attempt failed, or why the delivery was skipped.
    pub error: Option<String>,
    /// When it reached this state.
    pub at: Timestamp,
}

impl DeliveryRecord {
    /// Creates a record without attempts, status and error.
    pub fn new(alert: AlertId, channel: impl Into<Arc<str>>, state: DeliveryState, at: Timestamp) -> Self {
        Self { alert, channel: channel.into(), state, attempts: 0, status: None, error: None, at }
    }
}

/// A stored alert with its deliveries.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct AlertRecord {
    /// The alert's id.
    pub id: AlertId,
    /// When it was sent.
    pub at: Timestamp,
    /// The alert.
    pub alert: Alert,
    /// Its deliveries, ordered by channel.
    pub deliveries: Vec<DeliveryRecord>,
    /// The acknowledgement, if there is one.
    pub acknowledged: Option<Acknowledgement>,
}

impl AlertRecord {
    /// Creates a record without deliveries and acknowledgement.
    pub fn new(id: AlertId, alert: Alert, at: Timestamp) -> Self {
        Self { id, at, alert, deliveries: Vec::new(), acknowledged: None }
    }
}

/// The acknowledgement of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The person who acknowledged it.
    pub by: String,
    /// The time.
    pub at: Timestamp,
}

impl Acknowledgement {
    /// Creates an acknowledgement.
    pub fn new(by: impl Into<String>, at: Timestamp) -> Self {
        Self { by: by.into(), at }
    }
}

/// A filter for alerts; `None` matches all. Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertQuery {
    /// Only alerts of this agent.
    pub agent_id: Option<String>,
    /// Only alerts of this severity.
    pub severity: Option<Severity>,
    /// Only alerts of this objective.
    pub slo_name: Option<String>,
    /// Only alerts with this key.
    pub dedup_key: Option<String>,
    /// Only alerts sent at or after this time.
    pub since: Option<Timestamp>,
    /// Only alerts sent before this time.
    pub until: Option<Timestamp>,
    /// The maximum number of alerts; the newest are returned.
    pub limit: Option<usize>,
}

/// Limits of the alert history.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Alerts older than this are deleted.
    pub age: Duration,
    /// The oldest alerts are deleted while the store is larger than this, in bytes.
    pub size: u64,
}

impl Default for Retention {
    /// Returns 90 days and 1 GB.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 86_400), size: 1_000_000_000 }
    }
}
