use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CostScope, StoreError, Timestamp, Usd};

/// A store for what is spent and reserved, so that budgets survive a restart and processes can share them.
///
/// A call returns once its write survives the death of the process. Days and months are identified by their start, in the time
/// zone of the caller.
///
/// # Synchronous callers
/// The cost guard is synchronous: it decides in memory, calls the store, and blocks its thread until the future is ready. The
/// futures of an embedded store are ready when first polled. A store that waits for a network must make progress on threads of
/// its own, because the blocked thread may be the only one of an async runtime. In async code, call a guard with such a store
/// on a thread for blocking work.
///
/// # Examples
/// What every ledger does, here a [`MemoryLedger`](crate::MemoryLedger); `sre_testkit::conformance::ledger_store` checks one
/// of your own.
///
/// ```
/// use sre_core::{BudgetLimit, CostScope, LedgerEntry, LedgerReservation, LedgerStore, MemoryLedger, ReserveOutcome};
/// # use sre_core::{Timestamp, Usd};
/// # let (day, now, later) = (Timestamp::from_secs(0), Timestamp::from_secs(10), Timestamp::from_secs(900));
/// # let usd = |text: &str| text.parse::<Usd>().unwrap();
/// # pollster::block_on(async {
///
/// let ledger = MemoryLedger::default();
/// let limits = [BudgetLimit::new(CostScope::Org, day, usd("5"))];
/// let first = LedgerReservation::new(1, "writer", usd("3"), later);
/// assert_eq!(ledger.reserve(&first, &limits, now).await?, ReserveOutcome::Reserved);
/// let second = LedgerReservation::new(2, "critic", usd("3"), later);
/// assert!(matches!(ledger.reserve(&second, &limits, now).await?, ReserveOutcome::Denied { .. }));
/// ledger.record(&LedgerEntry::new(now, day, day, "writer", usd("1.50")), Some(1)).await?;
/// assert_eq!(ledger.totals(day, day).await?.org, usd("1.50"));
/// assert_eq!(ledger.reserve(&second, &limits, now).await?, ReserveOutcome::Reserved, "the first was settled");
/// # Ok::<(), sre_core::StoreError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// Records an amount that was spent, and ends the reservation that it settles, if any.
    async fn record(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError>;

    /// Reserves an amount if every limit allows it, as one atomic step: concurrent reservations, also of other processes,
    /// never exceed a limit together.
    ///
    /// A limit allows it if what was spent in its period, what is reserved from its budget and has not expired at `now`, and
    /// the new amount together are at most the limit. Without limits, the reservation is always made.
    async fn reserve(
        &self,
        reservation: &LedgerReservation,
        limits: &[BudgetLimit],
        now: Timestamp,
    ) -> Result<ReserveOutcome, StoreError>;

    /// Ends a reservation that was not spent. Does nothing if it has ended already.
    async fn release(&self, id: u64) -> Result<(), StoreError>;

    /// Sets the day's total of an agent, or of all agents if `None`, to zero. Team, model and month totals stay.
    async fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError>;

    /// Returns what was spent in the day and month, and all open reservations.
    async fn totals(&self, day: Timestamp, month: Timestamp) -> Result<LedgerTotals, StoreError>;

    /// Removes single amounts and expired reservations from before `entries_before`, and totals of days and months that
    /// started before `totals_before`.
    async fn prune(&self, entries_before: Timestamp, totals_before: Timestamp) -> Result<(), StoreError>;
}

/// An amount that was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// When it was spent.
    pub time: Timestamp,
    /// The start of the day it counts toward.
    pub day: Timestamp,
    /// The start of the month it counts toward.
    pub month: Timestamp,
    /// The agent.
    pub agent: String,
    /// The shared daily budgets it counts toward: [`CostScope`]s of a team and a model, as text.
    pub shared: Vec<String>,
    /// The model, if the agent has a daily budget on it.
    pub model: Option<String>,
    /// The task, or an empty string.
    pub task: String,
    /// Whether this is the first amount of the task on that day.
    pub is_new_task: bool,
    /// The amount; negative for a correction.
    pub amount: Usd,
}

impl LedgerEntry {
    /// Creates an entry that counts toward the budgets of the agent and the organisation only, without a task.
    pub fn new(time: Timestamp, day: Timestamp, month: Timestamp, agent: impl Into<String>, amount: Usd) -> Self {
        Self {
            time,
            day,
            month,
            agent: agent.into(),
            shared: Vec::new(),
            model: None,
            task: String::new(),
            is_new_task: false,
            amount,
        }
    }
}

/// An amount that is reserved until it is spent or released, or expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerReservation {
    /// An id that no other reservation in the store has.
    pub id: u64,
    /// The agent.
    pub agent: String,
    /// The shared daily budgets it is reserved from: [`CostScope`]s of a team and a model, as text.
    pub shared: Vec<String>,
    /// The model, if the agent has a daily budget on it.
    pub model: Option<String>,
    /// The amount.
    pub amount: Usd,
    /// When it expires.
    pub expires: Timestamp,
}

impl LedgerReservation {
    /// Creates a reservation from the budgets of the agent and the organisation only.
    pub fn new(id: u64, agent: impl Into<String>, amount: Usd, expires: Timestamp) -> Self {
        Self { id, agent: agent.into(), shared: Vec::new(), model: None, amount, expires }
    }

    /// Returns whether it is reserved from the budget of `scope`.
    pub fn counts_toward(&self, scope: &CostScope) -> bool {
        match scope {
            CostScope::Agent(agent) => self.agent == *agent,
            CostScope::AgentOnModel { agent, model } => self.agent == *agent && self.model.as_ref() == Some(model),
            CostScope::Team(_) | CostScope::Model(_) => self.shared.contains(&scope.to_string()),
            CostScope::Org => true,
        }
    }
}

/// A limit of a budget, which a reservation must fit into.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetLimit {
    /// The budget.
    pub scope: CostScope,
    /// The start of the budget's current day, or of the month for [`CostScope::Org`].
    pub period: Timestamp,
    /// The limit of what is spent in the period and reserved.
    pub limit: Usd,
}

impl BudgetLimit {
    /// Creates a limit for the day or month that starts at `period`.
    pub fn new(scope: CostScope, period: Timestamp, limit: Usd) -> Self {
        Self { scope, period, limit }
    }

    /// Checks whether `amount` fits, given what is spent and reserved.
    pub fn check(&self, used: Usd, amount: Usd) -> ReserveOutcome {
        if used + amount <= self.limit {
            return ReserveOutcome::Reserved;
        }
        let left = self.limit.checked_sub(used).unwrap_or_default().max(Usd::ZERO);
        ReserveOutcome::Denied { scope: self.scope.clone(), left, limit: self.limit }
    }
}

/// The answer to [`LedgerStore::reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the reservation may be denied"]
#[non_exhaustive]
pub enum ReserveOutcome {
    /// The reservation was made.
    Reserved,
    /// A budget has too little left. Nothing was reserved.
    Denied {
        /// The first budget of the given limits that does not allow it.
        scope: CostScope,
        /// What this budget has left.
        left: Usd,
        /// Its limit.
        limit: Usd,
    },
}

/// The totals of a day and a month, and all open reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerTotals {
    /// By agent: the amount spent in the day, and the number of tasks.
    pub agents: Vec<(String, Usd, u64)>,
    /// By agent and model: the amount spent in the day, for models on which agents have a budget.
    pub models: Vec<(String, String, Usd)>,
    /// By shared budget: the amount spent in the day.
    pub shared: Vec<(String, Usd)>,
    /// The amount that the organisation has spent in the month.
    pub org: Usd,
    /// All open reservations, expired ones included.
    pub reservations: Vec<LedgerReservation>,
}
