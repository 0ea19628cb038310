use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sre_core::{
    Clock, CostAlert, LedgerBooks, LedgerHold, LedgerStore, Signal, SignalHandler, StateError, StateReader,
    StateWriter, StoreError, SystemClock, Timestamp, Usd,
};

use crate::books::Books;
use crate::limits::MOST;
use crate::operations::Mode;
use crate::told::Told;
use crate::{InvalidLimits, Limits, Refused, Reservation, Spend, TaskCost};

/// Holds agents to their budgets: what a task may cost, what an agent may spend a day, and everybody a month.
///
/// Whoever wants to spend asks: [`check_and_charge`](Self::check_and_charge) where the cost is known before,
/// [`reserve`](Self::reserve) where it is not. However many threads ask at once, what is spent and reserved never exceeds a
/// limit, unless an actual cost outruns its estimate; then the excess is told. [`record_cost`](Self::record_cost) enters what
/// was spent already.
///
/// ```
/// use sre_cost::{CostGuard, Refused};
/// let guard = CostGuard::new();
/// guard.check_task("planner", "0.50".parse().unwrap())?;
/// let reservation = guard.reserve("planner", "0.50".parse().unwrap())?;
/// // … the call …
/// reservation.commit("0.45".parse().unwrap())?;
/// let budget = guard.get_budget("planner");
/// assert_eq!(budget.spent_today_usd.to_string(), "0.45");
/// let refused = guard.check_task("planner", "2.01".parse().unwrap()).unwrap_err();
/// assert_eq!(refused.to_string(), "the task would cost $2.01, and a task may cost $2");
/// # Ok::<(), Refused>(())
/// ```
pub struct CostGuard {
    pub(crate) books: Books,
    pub(crate) told: Told,
    store: Option<Arc<dyn LedgerStore>>,
    store_failures: AtomicU64,
    next_number: AtomicU64,
    /// The day on which the ledger was last pruned.
    pruned: AtomicI64,
}

/// Details of what was spent are kept in a ledger for so long.
const KEPT: Duration = Duration::from_secs(35 * 86_400);

impl Default for CostGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl CostGuard {
    /// A guard with the default limits.
    pub fn new() -> Self {
        Self::build(Limits::default(), Arc::new(SystemClock))
    }

    /// A guard with other limits; the error names the setting that cannot be.
    pub fn with_limits(limits: Limits) -> Result<Self, InvalidLimits> {
        limits.validate()?;
        Ok(Self::build(limits, Arc::new(SystemClock)))
    }

    /// The same by another clock, with empty books.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self::build(self.books.limits, clock)
    }

    /// The same with a ledger: takes up what it holds of the day and the month, and enters there all that is spent from now
    /// on, before the spender goes on.
    pub fn with_store(mut self, store: Arc<dyn LedgerStore>) -> Result<Self, StoreError> {
        let period = self.books.period();
        self.books.take_up(store.books(period.day, period.month)?);
        self.store = Some(store);
        Ok(self)
    }

    /// Writes the day's and the month's sums, for a guard without a ledger; reservations and what is usual are left out.
    pub(crate) fn save(&self, state: &mut StateWriter) {
        let period = self.books.period();
        state.put(&(period.day, period.month, self.books.held()));
    }

    /// Takes up what was saved of the present day and month.
    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let (day, month, mut books): (Timestamp, Timestamp, LedgerBooks) = state.take()?;
        let period = self.books.period();
        if day != period.day {
            books = LedgerBooks { org: books.org, ..LedgerBooks::default() };
        }
        if month != period.month {
            books.org = Usd::ZERO;
        }
        self.books.take_up(books);
        Ok(())
    }

    fn build(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        // Numbers of this process before a restart are not used again.
        let next_number = AtomicU64::new(clock.now().as_nanos().max(1).unsigned_abs());
        let books = Books::new(limits, clock);
        Self {
            books,
            told: Told::default(),
            store: None,
            store_failures: AtomicU64::new(0),
            next_number,
            pruned: AtomicI64::new(0),
        }
    }

    /// What may be spent.
    pub fn limits(&self) -> &Limits {
        &self.books.limits
    }

    /// Tells `handler` of every alert at once, as a [`SignalKind::Cost`](sre_core::SignalKind::Cost); else signals wait for the
    /// next event or evaluation. Only the first handler counts: false for a later one.
    pub fn forward_alerts(&self, handler: Arc<dyn SignalHandler>) -> bool {
        self.told.set_handler(handler)
    }

    /// Whether the agent may begin a task that is thought to cost so much. Nothing is reserved; but where the agent is slowed
    /// down, to be allowed takes its turn.
    pub fn check_task(&self, agent: &str, estimate: Usd) -> Result<(), Refused> {
        self.check(&(agent, estimate).into())
    }

    /// The same with more said about it.
    pub fn check(&self, spend: &Spend<'_>) -> Result<(), Refused> {
        valid("estimate", spend.amount)?;
        let (result, alerts) = self.books.check(spend);
        self.told.tell(&alerts);
        result
    }

    /// Spends, if every limit allows it, before the call is made: its cost is known. What is to be told of it.
    #[inline]
    pub fn check_and_charge(&self, agent: &str, amount: Usd) -> Result<Vec<CostAlert>, Refused> {
        self.charge(&(agent, amount).into())
    }

    /// The same with more said about it.
    pub fn charge(&self, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Refused> {
        valid("amount", spend.amount)?;
        self.enter(spend, Mode::Ask, None)
    }

    /// Enters what was spent already, whatever the limits say; what goes beyond them is told.
    pub fn record_cost(
        &self,
        agent: &str,
        task: &str,
        cost_usd: Usd,
        breakdown: &[(&str, Usd)],
    ) -> Result<Vec<CostAlert>, Refused> {
        self.record(&Spend { agent, task: Some(task), amount: cost_usd, breakdown, ..Spend::default() })
    }

    /// The same with more said about it.
    pub fn record(&self, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Refused> {
        valid("cost_usd", spend.amount)?;
        self.enter(spend, Mode::Must, None)
    }

    /// Sets an amount aside for a call, if every limit allows it. Commit it with what the call cost; dropped, it is given
    /// back, and one that is forgotten expires.
    pub fn reserve(&self, agent: &str, estimate: Usd) -> Result<Reservation<&Self>, Refused> {
        self.reserve_for(&(agent, estimate).into())
    }

    /// The same with more said about it.
    pub fn reserve_for(&self, spend: &Spend<'_>) -> Result<Reservation<&Self>, Refused> {
        self.hold(spend).map(|number| Reservation::new(self, number, spend))
    }

    /// The same for a reservation that must outlive the borrow.
    pub fn reserve_owned(self: &Arc<Self>, spend: &Spend<'_>) -> Result<Reservation<Arc<Self>>, Refused> {
        self.hold(spend).map(|number| Reservation::new(self.clone(), number, spend))
    }

    /// Begins the day of an agent (everybody's, where `None`) anew: nothing is spent, and it is neither slowed down nor refused.
    /// What is reserved stays so, and the organisation's month goes on.
    pub fn reset_daily(&self, agent: Option<&str>) {
        let now = self.books.clock.now();
        self.evaluate_at(now);
        let (day, freed) = self.books.reset(agent, now);
        self.stored(|store| store.reset_day(agent, day));
        self.told.tell(&freed);
    }

    /// What a task has cost, and what for; the oldest tasks are forgotten.
    pub fn task(&self, agent: &str, task: &str) -> Option<TaskCost> {
        self.books.task(agent, task)
    }

    /// The last thousand alerts, the oldest first.
    pub fn alerts(&self) -> Vec<CostAlert> {
        self.told.alerts()
    }

    /// What everybody has spent this month.
    pub fn org_spent_month(&self) -> Usd {
        self.evaluate_at(self.books.clock.now());
        self.books.read_org(|budget| Usd::from_nanos(budget.spent))
    }

    /// What everybody may spend this month still, less what is reserved.
    pub fn org_remaining_month(&self) -> Usd {
        self.evaluate_at(self.books.clock.now());
        self.books.read_org(crate::budget::Budget::left)
    }

    /// Signals that nobody took in time, and times that the ledger could not be written.
    pub fn failures(&self) -> (u64, u64) {
        (self.told.lost(), self.store_failures.load(Ordering::Relaxed))
    }

    pub(crate) fn evaluate_at(&self, now: Timestamp) {
        let freed = self.books.roll(now);
        self.told.tell(&freed);
        self.prune(now);
        self.books.expire(now);
    }

    pub(crate) fn take_pending(&self) -> Vec<Signal> {
        self.told.take_pending()
    }

    pub(crate) fn enter(&self, spend: &Spend<'_>, mode: Mode, settles: Option<u64>) -> Result<Vec<CostAlert>, Refused> {
        let (result, alerts) = self.books.enter(spend, mode, settles);
        self.told.tell(&alerts);
        let entered = result?;
        if self.store.is_some() {
            let entry = self.books.entry(spend, &entered);
            self.stored(|store| store.enter(&entry, settles));
            self.prune(entry.time);
        }
        Ok(alerts)
    }

    pub(crate) fn commit(&self, number: u64, spend: &Spend<'_>) -> Result<Vec<CostAlert>, Refused> {
        valid("actual", spend.amount)?;
        self.enter(spend, Mode::Must, Some(number))
    }

    pub(crate) fn release(&self, number: u64, agent: &str) {
        if self.books.release(number, agent) {
            self.stored(|store| store.release(number));
        }
    }

    fn hold(&self, spend: &Spend<'_>) -> Result<u64, Refused> {
        valid("estimate", spend.amount)?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (held, alerts) = self.books.hold(number, spend);
        self.told.tell(&alerts);
        let held = held?;
        self.stored(|store| {
            let shared = self.books.shared.names(held.places);
            let model = self.books.shared.model(held.places);
            let (agent, amount, expires) = (spend.agent.to_owned(), spend.amount, held.expires);
            store.hold(&LedgerHold { number, agent, shared, model, amount, expires })
        });
        Ok(number)
    }

    /// Lets the ledger forget what is too old, once a day.
    fn prune(&self, now: Timestamp) {
        if self.store.is_some() {
            let period = self.books.period();
            let day = period.day.as_nanos();
            if self.pruned.swap(day, Ordering::Relaxed) != day {
                self.stored(|store| store.prune(now.saturating_sub(KEPT), period.month));
            }
        }
    }

    fn stored(&self, write: impl FnOnce(&dyn LedgerStore) -> Result<(), StoreError>) {
        if let Some(store) = &self.store
            && write(&**store).is_err()
        {
            self.store_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn valid(field: &'static str, amount: Usd) -> Result<(), Refused> {
    if amount.is_negative() || amount > MOST {
        return Err(Refused::Invalid { field, found: amount });
    }
    Ok(())
}

impl fmt::Debug for CostGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostGuard").field("limits", &self.books.limits).finish_non_exhaustive()
    }
}
