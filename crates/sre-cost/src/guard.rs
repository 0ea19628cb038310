use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sre_core::{
    Clock, CostAlert, LedgerBooks, LedgerHold, LedgerStore, SignalSink, StateError, StateReader, StateWriter,
    StoreError, SystemClock, Timestamp, Usd,
};

use crate::denied::Denied;
use crate::ledger::Ledger;
use crate::limits::{InvalidLimits, Limits, MAX_AMOUNT};
use crate::notifier::Notifier;
use crate::operations::ChargeMode;
use crate::spend::Spend;
use crate::tasks::TaskCost;

/// Enforces limits on cost: per task, per agent and day, and for the organisation per month.
///
/// Call [`check_and_charge`](Self::check_and_charge) if the cost of a call is known before it is made,
/// [`reserve`](Self::reserve) if it is not, and [`record_cost`](Self::record_cost) for what was spent already. Under any
/// concurrency, the sum of what is spent and reserved never exceeds a limit, unless an actual cost is higher than its estimate
/// or was recorded afterwards; then an alert reports the excess.
///
/// ```
/// use sre_cost::{CostGuard, Denied};
/// let guard = CostGuard::new();
/// guard.check_task("planner", "0.50".parse().unwrap())?;
/// let reservation = guard.reserve("planner", "0.50".parse().unwrap())?;
/// // … the call …
/// reservation.commit("0.45".parse().unwrap())?;
/// let budget = guard.get_budget("planner");
/// assert_eq!(budget.spent_today_usd.to_string(), "0.45");
/// let denied = guard.check_task("planner", "2.01".parse().unwrap()).unwrap_err();
/// assert_eq!(denied.to_string(), "task limit exceeded: the task would cost $2.01, the limit is $2");
/// # Ok::<(), Denied>(())
/// ```
pub struct CostGuard {
    pub(crate) ledger: Ledger,
    pub(crate) notifier: Notifier,
    store: Option<Arc<dyn LedgerStore>>,
    store_failures: AtomicU64,
    next_id: AtomicU64,
    /// The day on which the store was last pruned.
    pruned_on: AtomicI64,
}

/// How long a store keeps single amounts.
const RETENTION: Duration = Duration::from_secs(35 * 86_400);

impl Default for CostGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl CostGuard {
    /// Creates a guard with the default limits.
    pub fn new() -> Self {
        Self::build(Limits::default(), Arc::new(SystemClock))
    }

    /// Creates a guard with other limits.
    ///
    /// # Errors
    /// Returns the first setting that is out of range.
    pub fn with_limits(limits: Limits) -> Result<Self, InvalidLimits> {
        limits.validate()?;
        Ok(Self::build(limits, Arc::new(SystemClock)))
    }

    /// Replaces the clock. Discards what was spent so far.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self::build(self.ledger.limits, clock)
    }

    /// Adds a store: restores what it holds of the current day and month, and from now on writes each charge and reservation
    /// to it before the call returns.
    pub fn with_store(mut self, store: Arc<dyn LedgerStore>) -> Result<Self, StoreError> {
        let period = self.ledger.period();
        self.ledger.restore(store.books(period.day, period.month)?);
        self.store = Some(store);
        Ok(self)
    }

    /// Saves the totals of the day and month, for a guard without a store. Reservations and cost baselines are not saved.
    pub(crate) fn save(&self, state: &mut StateWriter) {
        let period = self.ledger.period();
        state.put(&(period.day, period.month, self.ledger.totals()));
    }

    /// Restores the saved totals, if they are of the current day and month.
    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let (day, month, mut totals): (Timestamp, Timestamp, LedgerBooks) = state.take()?;
        let period = self.ledger.period();
        if day != period.day {
            totals = LedgerBooks { org: totals.org, ..LedgerBooks::default() };
        }
        if month != period.month {
            totals.org = Usd::ZERO;
        }
        self.ledger.restore(totals);
        Ok(())
    }

    fn build(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        // Starts at the time, so that ids from before a restart are not used again.
        let next_id = AtomicU64::new(clock.now().as_nanos().max(1).unsigned_abs());
        Self {
            ledger: Ledger::new(limits, clock),
            notifier: Notifier::default(),
            store: None,
            store_failures: AtomicU64::new(0),
            next_id,
            pruned_on: AtomicI64::new(0),
        }
    }

    /// Returns the limits.
    pub fn limits(&self) -> &Limits {
        &self.ledger.limits
    }

    /// Sends every alert to `signals` at once, as a [`SignalKind::Cost`](sre_core::SignalKind::Cost). Until something is
    /// connected, signals wait for the next event or evaluation. Returns false, and changes nothing, if something is already.
    pub fn connect(&self, signals: Arc<dyn SignalSink>) -> bool {
        self.notifier.outlet.connect(signals)
    }

    /// Checks whether the agent may start a task with this estimated cost. Nothing is reserved, but if the agent is throttled,
    /// success consumes its rate-limit token.
    pub fn check_task(&self, agent: &str, estimate: Usd) -> Result<(), Denied> {
        self.check(&Spend::new(agent, estimate))
    }

    /// Like [`check_task`](Self::check_task), with the task, team and model known.
    pub fn check(&self, spend: &Spend<'_>) -> Result<(), Denied> {
        validate("estimate", spend.amount)?;
        let (result, alerts) = self.ledger.check(spend);
        self.notifier.notify(&alerts);
        result
    }

    /// Charges an amount that is known before the call is made, if every limit allows it. Returns the alerts that this raises.
    #[inline]
    pub fn check_and_charge(&self, agent: &str, amount: Usd) -> Result<Vec<CostAlert>, Denied> {
        self.charge(&Spend::new(agent, amount))
    }

    /// Like [`check_and_charge`](Self::check_and_charge), with the task, team and model known.
    pub fn charge(&self, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Denied> {
        validate("amount", spend.amount)?;
        self.charge_with(spend, ChargeMode::Limited, None)
    }

    /// Records what was spent already, whatever the limits. Returns the alerts that this raises.
    ///
    /// # Errors
    /// Returns [`Denied::InvalidAmount`] only.
    pub fn record_cost(
        &self,
        agent: &str,
        task: &str,
        cost_usd: Usd,
        breakdown: &[(&str, Usd)],
    ) -> Result<Vec<CostAlert>, Denied> {
        self.record(&Spend { task: Some(task), breakdown, ..Spend::new(agent, cost_usd) })
    }

    /// Like [`record_cost`](Self::record_cost), with the team and model known.
    pub fn record(&self, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Denied> {
        validate("cost_usd", spend.amount)?;
        self.charge_with(spend, ChargeMode::Unlimited, None)
    }

    /// Restarts the day of an agent, or of all if `None`: nothing is spent, and nobody is throttled or killed. Reservations
    /// stay, and so does the organisation's month.
    pub fn reset_daily(&self, agent: Option<&str>) {
        let now = self.ledger.clock.now();
        self.evaluate_at(now);
        let (day, alerts) = self.ledger.reset_day(agent, now);
        self.write(|store| store.reset_day(agent, day));
        self.notifier.notify(&alerts);
    }

    /// Returns what a task has cost, if it is one of the [`Limits::max_tasks`] most recent.
    pub fn task(&self, agent: &str, task: &str) -> Option<TaskCost> {
        self.ledger.task(agent, task)
    }

    /// Returns the last 1,000 alerts, oldest first.
    pub fn alerts(&self) -> Vec<CostAlert> {
        self.notifier.alerts()
    }

    /// Returns what the organisation has spent this month.
    pub fn org_spent_month(&self) -> Usd {
        self.evaluate_at(self.ledger.clock.now());
        self.ledger.read_org(|budget| Usd::from_nanos(budget.spent))
    }

    /// Returns what the organisation has neither spent nor reserved this month.
    pub fn org_remaining_month(&self) -> Usd {
        self.evaluate_at(self.ledger.clock.now());
        self.ledger.read_org(crate::budget::Budget::left)
    }

    /// Returns how many signals were dropped because nobody took them, and how many writes to the store failed.
    pub fn failures(&self) -> (u64, u64) {
        (self.notifier.outlet.dropped(), self.store_failures.load(Ordering::Relaxed))
    }

    /// Starts a new day or month if it is time, and releases expired reservations.
    pub(crate) fn evaluate_at(&self, now: Timestamp) {
        let alerts = self.ledger.roll_over(now);
        self.notifier.notify(&alerts);
        self.prune(now);
        self.ledger.expire(now);
    }

    pub(crate) fn charge_with(
        &self,
        spend: &Spend<'_>,
        mode: ChargeMode,
        reservation: Option<u64>,
    ) -> Result<Vec<CostAlert>, Denied> {
        let (result, alerts) = self.ledger.charge(spend, mode, reservation);
        self.notifier.notify(&alerts);
        let charged = result?;
        if self.store.is_some() {
            let entry = self.ledger.entry(spend, &charged);
            self.write(|store| store.enter(&entry, reservation));
            self.prune(entry.time);
        }
        Ok(alerts)
    }

    pub(crate) fn commit(&self, reservation: u64, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Denied> {
        validate("actual", spend.amount)?;
        self.charge_with(spend, ChargeMode::Unlimited, Some(reservation))
    }

    pub(crate) fn release(&self, reservation: u64, agent: &str) {
        if self.ledger.release(reservation, agent) {
            self.write(|store| store.release(reservation));
        }
    }

    /// Reserves an amount. Returns the reservation's id.
    pub(crate) fn reserve_id(&self, spend: &Spend<'_>) -> Result<u64, Denied> {
        validate("estimate", spend.amount)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (result, alerts) = self.ledger.reserve(id, spend);
        self.notifier.notify(&alerts);
        let reserved = result?;
        self.write(|store| {
            let shared = self.ledger.shared.names(reserved.budgets);
            let model = reserved.budgets.on_model.map(|id| self.ledger.shared.model_name(id).to_owned());
            let (agent, amount, expires) = (spend.agent.to_owned(), spend.amount, reserved.expires);
            store.hold(&LedgerHold { number: id, agent, shared, model, amount, expires })
        });
        Ok(id)
    }

    /// Removes old amounts and totals from the store, once a day.
    fn prune(&self, now: Timestamp) {
        if self.store.is_some() {
            let period = self.ledger.period();
            let day = period.day.as_nanos();
            if self.pruned_on.swap(day, Ordering::Relaxed) != day {
                self.write(|store| store.prune(now.saturating_sub(RETENTION), period.month));
            }
        }
    }

    fn write(&self, write: impl FnOnce(&dyn LedgerStore) -> Result<(), StoreError>) {
        if let Some(store) = &self.store
            && write(&**store).is_err()
        {
            self.store_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn validate(field: &'static str, amount: Usd) -> Result<(), Denied> {
    if amount.is_negative() || amount > MAX_AMOUNT {
        return Err(Denied::InvalidAmount { field, found: amount });
    }
    Ok(())
}

impl fmt::Debug for CostGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostGuard").field("limits", &self.ledger.limits).finish_non_exhaustive()
    }
}
