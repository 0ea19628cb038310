use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sre_core::{
    Clock, CostAlert, CostAlertKind, CostStatus, LedgerStore, LedgerTotals, Phase, ReserveOutcome, Signal, SignalKind,
    SignalSink, StateError, StateReader, StateWriter, StoreError, SystemClock, Timestamp, Usd,
};

use crate::blocking_store::BlockingStore;
use crate::budget::Budget;
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
/// let budget = guard.budget("planner");
/// assert_eq!(budget.spent_today_usd.to_string(), "0.45");
/// let denied = guard.check_task("planner", "2.01".parse().unwrap()).unwrap_err();
/// assert_eq!(denied.to_string(), "task limit exceeded: the task would cost $2.01, the limit is $2");
/// # Ok::<(), Denied>(())
/// ```
pub struct CostGuard {
    pub(crate) ledger: Ledger,
    pub(crate) notifier: Notifier,
    pub(crate) exhausted: Mutex<Exhausted>,
    store: Option<BlockingStore>,
    /// What was spent before there was a store.
    unstored: LedgerTotals,
    next_id: AtomicU64,
}

/// The objectives whose exhausted error budget throttles their agent: since when, by incident key. One stays here until it
/// recovers, also after a new day or a reset has unblocked its agent, so that a repeated signal does not throttle it again.
pub(crate) type Exhausted = BTreeMap<String, Timestamp>;

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

    /// Replaces the clock. What was spent so far counts toward the new clock's day and month, except that what is in a store counts
    /// toward the day and month for which it is stored. A failed read of the store is counted.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let (totals, tasks, throttled) = (self.ledger.totals(), self.ledger.task_costs(), self.ledger.throttled_by());
        let guard = Self { ledger: Ledger::new(self.ledger.limits, clock), ..self };
        guard.ledger.restore_task_costs(tasks);
        match &guard.store {
            None => guard.ledger.restore(totals),
            Some(store) => {
                guard.ledger.restore(guard.unstored.clone());
                if let Some(stored) = store.totals_or_count(guard.ledger.period()) {
                    guard.ledger.restore(stored);
                }
            }
        }
        let now = guard.ledger.clock.now();
        for (agent, key) in throttled {
            // The alert of it was sent before.
            drop(guard.ledger.throttle(&agent, &key, "", now));
        }
        guard
    }

    /// Adds a store: restores what it holds of the current day and month, and from now on writes each charge and reservation
    /// to it before the call returns.
    ///
    /// If several processes share the store, it denies reservations that only together exceed a limit. Charges without a
    /// reservation are checked against the state of this process. A write that fails is counted, and denies nothing.
    pub fn with_store(mut self, store: Arc<dyn LedgerStore>) -> Result<Self, StoreError> {
        let store = BlockingStore::new(store);
        self.unstored = self.ledger.totals();
        self.ledger.restore(store.totals(self.ledger.period())?);
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
        let (day, month, mut totals): (Timestamp, Timestamp, LedgerTotals) = state.take()?;
        // The clock may have been set since the guard was created. One that was set back begins no day anew.
        self.evaluate_at(self.ledger.clock.now().max(day));
        let period = self.ledger.period();
        if day != period.day {
            let org = totals.org;
            totals = LedgerTotals::default();
            totals.org = org;
        }
        if month != period.month {
            totals.org = Usd::ZERO;
        }
        self.ledger.restore(totals);
        Ok(())
    }

    /// Restores the signals of agents that were throttled or blocked. Agents whose day has ended are unblocked; the next
    /// evaluation reports it, after the signals that an earlier run has not handled are restored.
    pub(crate) fn restore_statuses(&self, statuses: Vec<Signal>) {
        let now = self.ledger.clock.now();
        let unblocked_alert = |signal: &Signal| match &signal.kind {
            SignalKind::Cost(alert) if signal.phase == Phase::Firing => {
                (self.ledger.status(&alert.scope) == CostStatus::Ok).then(|| {
                    CostAlert::new(now, alert.scope.clone(), Usd::ZERO, alert.limit_usd, CostAlertKind::Unblocked)
                })
            }
            _ => None,
        };
        let unblocked: Vec<CostAlert> = statuses.iter().filter_map(unblocked_alert).collect();
        self.notifier.restore(statuses);
        self.notifier.queue(&unblocked);
    }

    fn build(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger: Ledger::new(limits, clock),
            notifier: Notifier::default(),
            exhausted: Mutex::default(),
            store: None,
            unstored: LedgerTotals::default(),
            // Random, so that ids of processes that share a store, and from before a restart, do not collide.
            next_id: AtomicU64::new(RandomState::new().hash_one("reservation")),
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

    /// Restarts the day of an agent, or of all if `None`: spending is 0 and no agent is throttled or blocked. Reservations stay,
    /// and so does the organisation's month.
    pub fn reset_daily(&self, agent: Option<&str>) {
        let now = self.ledger.clock.now();
        self.evaluate_at(now);
        let (day, alerts) = self.ledger.reset_day(agent, now);
        if let Some(store) = &self.store {
            store.reset_day(agent, day);
        }
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

    /// Returns the last signal of each agent that has been throttled, blocked or unblocked, as [`CostObserver`](crate::CostObserver)
    /// re-sends them.
    pub fn incidents(&self) -> Vec<Signal> {
        self.notifier.statuses()
    }

    /// Returns what the organisation has spent this month.
    pub fn org_spent_month(&self) -> Usd {
        self.evaluate_at(self.ledger.clock.now());
        self.ledger.read_org(|budget| Usd::from_nanos(budget.spent))
    }

    /// Returns what the organisation has neither spent nor reserved this month.
    pub fn org_remaining_month(&self) -> Usd {
        self.evaluate_at(self.ledger.clock.now());
        self.ledger.read_org(Budget::left)
    }

    /// Returns how many signals were dropped because no sink was connected, and how many writes to the store failed.
    pub fn failures(&self) -> (u64, u64) {
        (self.notifier.outlet.dropped(), self.store.as_ref().map_or(0, BlockingStore::failures))
    }

    /// Starts a new day or month if it is time, and releases expired reservations.
    pub(crate) fn evaluate_at(&self, now: Timestamp) {
        let alerts = self.ledger.roll_over(now);
        self.notifier.notify(&alerts);
        if let Some(store) = &self.store {
            store.prune(now, self.ledger.period());
        }
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
        if let Some(store) = &self.store {
            let entry = self.ledger.entry(spend, &charged);
            store.record(&entry, reservation);
            store.prune(entry.time, self.ledger.period());
        }
        Ok(alerts)
    }

    pub(crate) fn commit(&self, reservation: u64, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Denied> {
        validate("actual", spend.amount)?;
        self.charge_with(spend, ChargeMode::Unlimited, Some(reservation))
    }

    pub(crate) fn release(&self, reservation: u64, agent: &str) {
        // The store first: otherwise it might deny an amount that this process has released already.
        if let Some(store) = &self.store {
            store.release(reservation);
        }
        self.ledger.release(reservation, agent);
    }

    /// Reserves an amount. Returns the reservation's id.
    pub(crate) fn reserve_id(&self, spend: &Spend<'_>) -> Result<u64, Denied> {
        validate("estimate", spend.amount)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (result, alerts) = self.ledger.reserve(id, spend);
        self.notifier.notify(&alerts);
        let reserved = result?;
        if let Some(store) = &self.store {
            let reservation = self.ledger.reservation(id, spend, &reserved);
            let limits = self.ledger.budget_limits(spend.agent, &reserved);
            if let ReserveOutcome::Denied { scope, left, limit } = store.reserve(&reservation, &limits, reserved.now) {
                self.ledger.release(id, spend.agent);
                return Err(Denied::Budget { scope, left, limit, amount: spend.amount });
            }
        }
        Ok(id)
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
