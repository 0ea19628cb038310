use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sre_core::{Clock, CostAlert, CostAlertKind, CostScope, CostStatus, LedgerBooks, LedgerEntry, Timestamp, Usd};

use crate::account::{Account, Hold, Unusual};
use crate::accounts::{Accounts, Name};
use crate::budget::{Budget, Mark, Marked};
use crate::org::{Lease, Org, Taken};
use crate::period::{Calendar, Period};
use crate::shared::{Places, Shared};
use crate::tasks::Tasks;
use crate::{Limits, Refused};

/// The books of everybody, for any number of threads.
///
/// They are kept in parts, each under a lock of its own; a thread takes the lock of its agent's part, within it those of the
/// shared budgets, and within those the organisation's, so that what it sees is what it decides by. Where the organisation's
/// limit or threshold is near, it lets go of its part and takes all of them, in their order.
pub(crate) struct Books {
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    calendar: Calendar,
    shards: Box<[Part]>,
    org: Mutex<Org>,
    pub(crate) shared: Shared,
    /// When the first reservation expires, in nanoseconds.
    next_expiry: AtomicI64,
    /// Amounts of agents that found no room.
    pub(crate) overflow: AtomicU64,
}

pub(crate) const SHARDS: usize = 64;

/// Cache lines of its own, so that threads at work on neighbours do not slow each other.
#[repr(align(128))]
struct Part(Mutex<Shard>);

pub(crate) struct Shard {
    accounts: Accounts,
    tasks: Tasks,
    lease: Lease,
    period: Period,
}

/// What somebody spends, or wants to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend<'a> {
    /// Who.
    pub agent: &'a str,
    /// On which task.
    pub task: Option<&'a str>,
    /// Of which team; an agent stays with the last one that was named.
    pub team: Option<&'a str>,
    /// On which model.
    pub model: Option<&'a str>,
    /// How much.
    pub amount: Usd,
    /// What for, in parts.
    pub breakdown: &'a [(&'a str, Usd)],
}

impl<'a> From<(&'a str, Usd)> for Spend<'a> {
    fn from((agent, amount): (&'a str, Usd)) -> Self {
        Self { agent, amount, ..Self::default() }
    }
}

/// How an amount is entered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// If every limit allows it.
    Ask,
    /// In any case: it was spent already.
    Must,
}

/// An amount that was entered, for the ledger.
pub(crate) struct Entered {
    places: Places,
    period: Period,
    now: Timestamp,
    is_new_task: bool,
}

/// An amount that was set aside.
pub(crate) struct Held {
    pub(crate) places: Places,
    pub(crate) expires: Timestamp,
}

/// What came of an attempt on one part of the books.
enum Attempt<T> {
    Done(T),
    Refused(Refused),
    /// All leases must be called in to know.
    CallIn,
}

type Alerts = Vec<CostAlert>;

impl Books {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let calendar = Calendar(limits.time_zone.clone());
        let period = calendar.at(clock.now());
        let marks = limits.alert_thresholds.iter().map(|threshold| (*threshold, Marked::Threshold(*threshold)));
        let shard = || Shard {
            accounts: Accounts::default(),
            tasks: Tasks::new(limits.max_tasks / SHARDS),
            lease: Lease::default(),
            period,
        };
        Self {
            calendar,
            shards: (0..SHARDS).map(|_| Part(Mutex::new(shard()))).collect(),
            org: Mutex::new(Org::new(Budget::new(limits.org_monthly, marks))),
            shared: Shared::new(&limits),
            next_expiry: AtomicI64::new(i64::MAX),
            overflow: AtomicU64::new(0),
            limits,
            clock,
        }
    }

    pub(crate) fn period(&self) -> Period {
        lock(&self.shards[0].0).period
    }

    /// Takes up what a ledger holds. What that has passed already was told before.
    pub(crate) fn take_up(&self, books: LedgerBooks) {
        let now = self.clock.now();
        for (agent, spent, tasks) in books.agents {
            let name = Name::new(&agent);
            if let Some(account) = self.account(&mut self.shard(name).accounts, name, &(&*agent, spent).into()) {
                account.restore(spent, tasks, &self.limits, &self.clock);
            }
        }
        for (name, spent) in books.shared {
            let places = self.shared.places_of(&[name]);
            self.shared.at(places).for_each(|(_, budget)| drop(lock(budget).spend(spent.nanos(), now)));
        }
        lock(&self.org).budget.spend(books.org.nanos(), now);
        for hold in books.holds {
            let places = self.shared.places_of(&hold.shared);
            let spend = (&*hold.agent, hold.amount).into();
            let name = Name::new(&hold.agent);
            if let Some(account) = self.account(&mut self.shard(name).accounts, name, &spend) {
                let amount = hold.amount.nanos();
                account.hold(Hold { number: hold.number, amount, places, expires: hold.expires });
                self.shared.let_go(places, -amount);
                lock(&self.org).budget.reserved += amount;
                self.next_expiry.fetch_min(hold.expires.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    /// Whether an amount could be entered now.
    pub(crate) fn check(&self, spend: &Spend<'_>) -> (Result<(), Refused>, Alerts) {
        let amount = spend.amount.nanos();
        let name = Name::new(spend.agent);
        self.attempt(name, |shard, _, _| {
            let account = self.account(&mut shard.accounts, name, spend);
            let places = self.shared.of(account.as_deref(), spend);
            if let Err(refused) = self.allows(account.as_deref(), &shard.tasks, spend, places) {
                return Attempt::Refused(refused);
            }
            let mut org = lock(&self.org);
            match org.reserve(amount) {
                Taken::Done(_) => {
                    org.budget.reserved -= amount;
                    Attempt::Done(())
                }
                Taken::Refused => Attempt::Refused(too_much(CostScope::Org, &org.budget, spend)),
                Taken::CallIn => Attempt::CallIn,
            }
        })
    }

    /// Enters an amount, and ends the reservation that was made for it, in one step.
    pub(crate) fn enter(
        &self,
        spend: &Spend<'_>,
        mode: Mode,
        settles: Option<u64>,
    ) -> (Result<Entered, Refused>, Alerts) {
        let amount = spend.amount.nanos();
        let name = Name::new(spend.agent);
        self.attempt(name, |shard, now, alerts| {
            let Shard { accounts, tasks, lease, period } = shard;
            let mut account = self.account(accounts, name, spend);
            let places = self.shared.of(account.as_deref(), spend);
            if mode == Mode::Ask
                && let Err(refused) = self.allows(account.as_deref(), tasks, spend, places)
            {
                return Attempt::Refused(refused);
            }
            let hold = settles.and_then(|number| account.as_ref()?.find_hold(number));
            let reserved = hold.map_or(0, |hold| hold.amount);
            if reserved != 0 || !lease.spend(amount) {
                let mut org = lock(&self.org);
                org.budget.reserved -= reserved;
                match org.spend(lease, amount, mode == Mode::Must, now) {
                    Taken::Done(passed) => tell(&CostScope::Org, &mut org.budget, &passed, now, alerts),
                    Taken::Refused => {
                        org.budget.reserved += reserved;
                        return Attempt::Refused(too_much(CostScope::Org, &org.budget, spend));
                    }
                    Taken::CallIn => {
                        org.budget.reserved += reserved;
                        return Attempt::CallIn;
                    }
                }
            }
            // An amount was reserved from the budgets of that time, which need not be those of now.
            self.shared.let_go(hold.map_or([None; 2], |hold| hold.places), reserved);
            for (scope, budget) in self.shared.at(places) {
                let mut budget = lock(budget);
                let passed = budget.spend(amount, now);
                tell(scope, &mut budget, &passed, now, alerts);
            }
            let mut is_new_task = false;
            if let Some(account) = &mut account {
                if let Some(hold) = hold {
                    account.let_go(hold.number);
                }
                is_new_task = enter_task(account, tasks, spend, now, alerts);
                self.enter_account(account, spend, now, alerts);
            }
            Attempt::Done(Entered { places, period: *period, now, is_new_task })
        })
    }

    /// Sets an amount aside.
    pub(crate) fn hold(&self, number: u64, spend: &Spend<'_>) -> (Result<Held, Refused>, Alerts) {
        let amount = spend.amount.nanos();
        let name = Name::new(spend.agent);
        let (held, alerts) = self.attempt(name, |shard, now, _| {
            let account = self.account(&mut shard.accounts, name, spend);
            let places = self.shared.of(account.as_deref(), spend);
            if let Err(refused) = self.allows(account.as_deref(), &shard.tasks, spend, places) {
                return Attempt::Refused(refused);
            }
            // Without books of the agent's there is nothing to hold it in.
            let Some(account) = account else {
                return Attempt::Refused(Refused::NoRoom { agent: spend.agent.to_owned() });
            };
            let mut org = lock(&self.org);
            match org.reserve(amount) {
                Taken::Done(_) => {}
                Taken::Refused => return Attempt::Refused(too_much(CostScope::Org, &org.budget, spend)),
                Taken::CallIn => return Attempt::CallIn,
            }
            drop(org);
            let expires = now.saturating_add(self.limits.reservation_timeout);
            account.hold(Hold { number, amount, places, expires });
            self.shared.let_go(places, -amount);
            Attempt::Done(Held { places, expires })
        });
        if let Ok(held) = &held {
            self.next_expiry.fetch_min(held.expires.as_nanos(), Ordering::Relaxed);
        }
        (held, alerts)
    }

    /// A reservation came to nothing; false where it is over already.
    pub(crate) fn release(&self, number: u64, agent: &str) -> bool {
        let name = Name::new(agent);
        self.shard(name).accounts.get_mut(name).is_some_and(|account| self.let_go(account, number))
    }

    fn let_go(&self, account: &mut Account, number: u64) -> bool {
        let Some(hold) = account.let_go(number) else { return false };
        self.shared.let_go(hold.places, hold.amount);
        lock(&self.org).budget.reserved -= hold.amount;
        true
    }

    /// Lets go of reservations that are too old. A ledger needs no word of it: they are too old there as well.
    #[inline]
    pub(crate) fn expire(&self, now: Timestamp) {
        if now.as_nanos() >= self.next_expiry.load(Ordering::Relaxed) {
            self.let_go_expired(now);
        }
    }

    #[cold]
    fn let_go_expired(&self, now: Timestamp) {
        // Whoever reserves meanwhile puts a time of its own there.
        self.next_expiry.store(i64::MAX, Ordering::Relaxed);
        let mut next = i64::MAX;
        for shard in &self.shards {
            for (_, account) in lock(&shard.0).accounts.iter_mut() {
                for number in account.expired(now) {
                    self.let_go(account, number);
                }
                next = next.min(account.next_expiry().as_nanos());
            }
        }
        self.next_expiry.fetch_min(next, Ordering::Relaxed);
    }

    /// Begins a new day, and a new month, if it is time: once, however long nobody came. The new period, if there is one, and
    /// who was freed by it.
    pub(crate) fn roll(&self, now: Timestamp) -> (Option<Period>, Alerts) {
        if now < self.period().day_end {
            return (None, Vec::new());
        }
        let (mut shards, mut freed) = (self.all(), Vec::new());
        let before = shards[0].period;
        if now < before.day_end {
            return (None, Vec::new());
        }
        let period = self.calendar.at(now);
        if period.month != before.month {
            lock(&self.org).begin();
        }
        self.shared.budgets.iter().for_each(|(_, budget)| lock(budget).begin());
        for shard in &mut shards {
            shard.period = period;
            // Who did nothing for a day makes room.
            shard.accounts.forget_idle();
            shard.begin_day(None, now, &mut freed);
        }
        (Some(period), freed)
    }

    /// Begins the day of an agent, or everybody's, anew; the day it is, and who was freed.
    pub(crate) fn reset(&self, agent: Option<&str>, now: Timestamp) -> (Timestamp, Alerts) {
        let mut freed = Vec::new();
        self.shards.iter().for_each(|part| lock(&part.0).begin_day(agent, now, &mut freed));
        (self.period().day, freed)
    }

    /// Reads an agent's books; `None` where it has none.
    pub(crate) fn read<R>(&self, agent: &str, read: impl FnOnce(&Account) -> R) -> Option<R> {
        let name = Name::new(agent);
        self.shard(name).accounts.get(name).map(read)
    }

    /// Reads every agent's books.
    pub(crate) fn read_all<R>(&self, mut read: impl FnMut(&str, &Account) -> R) -> Vec<R> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(&shard.0);
            all.extend(shard.accounts.iter().map(|(name, account)| read(name, account)));
        }
        all
    }

    /// Reads the organisation's books, with all leases called in.
    pub(crate) fn read_org<R>(&self, read: impl FnOnce(&Budget) -> R) -> R {
        let shards = self.all();
        let read = read(&lock(&self.org).budget);
        drop(shards);
        read
    }

    pub(crate) fn task(&self, agent: &str, task: &str) -> Option<crate::TaskCost> {
        self.shard(Name::new(agent)).tasks.get(agent, task).cloned()
    }

    /// What a ledger writes down of an amount that was entered.
    pub(crate) fn entry(&self, spend: &Spend<'_>, entered: &Entered) -> LedgerEntry {
        LedgerEntry {
            time: entered.now,
            day: entered.period.day,
            month: entered.period.month,
            agent: spend.agent.to_owned(),
            shared: self.shared.names(entered.places),
            task: spend.task.unwrap_or_default().to_owned(),
            is_new_task: entered.is_new_task,
            amount: spend.amount,
        }
    }

    fn shard(&self, name: Name<'_>) -> MutexGuard<'_, Shard> {
        lock(&self.shards[name.part(SHARDS)].0)
    }

    /// Every part of the books, with all leases called in.
    fn all(&self) -> Vec<MutexGuard<'_, Shard>> {
        let mut shards: Vec<_> = self.shards.iter().map(|part| lock(&part.0)).collect();
        let (mut org, now) = (lock(&self.org), self.clock.coarse_now());
        shards.iter_mut().for_each(|shard| org.call_in(&mut shard.lease, now));
        shards
    }

    /// Acts on an agent's part of the books; where that is not enough to know, on it while nobody can touch the others.
    fn attempt<T>(
        &self,
        name: Name<'_>,
        mut act: impl FnMut(&mut Shard, Timestamp, &mut Alerts) -> Attempt<T>,
    ) -> (Result<T, Refused>, Alerts) {
        let now = self.clock.coarse_now();
        self.expire(now);
        let (place, mut alerts) = (name.part(SHARDS), Vec::new());
        let mut attempt = {
            let mut shard = lock(&self.shards[place].0);
            if now < shard.period.day_end { act(&mut shard, now, &mut alerts) } else { Attempt::CallIn }
        };
        if matches!(attempt, Attempt::CallIn) {
            alerts.extend(self.roll(now).1);
            let mut shards = self.all();
            attempt = act(&mut shards[place], now, &mut alerts);
        }
        match attempt {
            Attempt::Done(result) => (Ok(result), alerts),
            Attempt::Refused(refused) => (Err(refused), alerts),
            Attempt::CallIn => unreachable!("every lease was called in"),
        }
    }

    /// The agent's books of today, made if need be, where there is room.
    #[inline]
    fn account<'a>(&self, accounts: &'a mut Accounts, name: Name<'_>, spend: &Spend<'_>) -> Option<&'a mut Account> {
        let most = self.limits.max_agents.div_ceil(SHARDS);
        let new = || Account::new(&self.limits, spend.agent, spend.team);
        let Some(account) = accounts.get_or_make(name, most, new) else {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if let Some(team) = spend.team.filter(|team| account.rest.team.as_deref() != Some(*team)) {
            account.move_to(&self.limits, spend.agent, team, &self.clock);
        }
        Some(account)
    }

    /// Whether everything but the organisation's limit allows it. Where the agent is slowed down, to be allowed takes its
    /// turn.
    fn allows(
        &self,
        account: Option<&Account>,
        tasks: &Tasks,
        spend: &Spend<'_>,
        places: Places,
    ) -> Result<(), Refused> {
        if let Some(account) = account.filter(|account| account.status == CostStatus::Killed) {
            return account.may_begin(spend.agent);
        }
        let before = spend.task.and_then(|task| tasks.get(spend.agent, task)).map_or(Usd::ZERO, |task| task.spent_usd);
        let (would_cost, limit) =
            (before + spend.amount, account.map_or(self.limits.per_task, |account| account.per_task));
        if would_cost > limit {
            return Err(Refused::Task { would_cost, limit });
        }
        if let Some(account) = account.filter(|account| !account.budget.fits(spend.amount.nanos())) {
            return Err(too_much(CostScope::Agent(spend.agent.to_owned()), &account.budget, spend));
        }
        for (scope, budget) in self.shared.at(places) {
            let budget = lock(budget);
            if !budget.fits(spend.amount.nanos()) {
                return Err(too_much(scope.clone(), &budget, spend));
            }
        }
        account.map_or(Ok(()), |account| account.may_begin(spend.agent))
    }

    #[inline]
    fn enter_account(&self, account: &mut Account, spend: &Spend<'_>, now: Timestamp, alerts: &mut Alerts) {
        let passed = account.budget.spend(spend.amount.nanos(), now);
        let unusual = if self.limits.anomaly_detection && spend.amount > Usd::ZERO {
            account.judge(spend.amount, now)
        } else {
            Unusual::default()
        };
        if !passed.is_empty() || account.budget.is_exceeded() || unusual.is_any() {
            let mut kinds = account.obey(&passed, &self.limits, &self.clock);
            kinds.extend(account.budget.excess());
            kinds.extend(account.tell_unusual(unusual));
            let scope = || CostScope::Agent(spend.agent.to_owned());
            alerts.extend(kinds.into_iter().map(|kind| alert(scope(), &account.budget, kind, now)));
        }
    }
}

impl Shard {
    fn begin_day(&mut self, agent: Option<&str>, now: Timestamp, freed: &mut Alerts) {
        for (name, account) in self.accounts.iter_mut().filter(|(name, _)| agent.is_none_or(|agent| agent == *name)) {
            if account.begin() {
                let scope = CostScope::Agent(name.to_string());
                freed.push(alert(scope, &account.budget, CostAlertKind::Freed, now));
            }
        }
    }
}

/// Adds to the task, where one is named; whether it is new.
fn enter_task(
    account: &mut Account,
    tasks: &mut Tasks,
    spend: &Spend<'_>,
    now: Timestamp,
    alerts: &mut Alerts,
) -> bool {
    let Some(task) = spend.task else { return false };
    let (spent, is_new) = tasks.add(spend.agent, task, spend.amount, spend.breakdown, now);
    account.rest.tasks += u64::from(is_new);
    let before = spent.nanos() - spend.amount.nanos();
    if spent > account.per_task && before <= account.per_task.nanos() {
        alerts.push(CostAlert {
            at: now,
            scope: CostScope::Agent(spend.agent.to_owned()),
            spent_usd: spent,
            limit_usd: account.per_task,
            kind: CostAlertKind::TaskExceeded { task: task.to_owned() },
        });
    }
    is_new
}

/// Tells of thresholds that were passed, and of what went beyond the limit.
fn tell(scope: &CostScope, budget: &mut Budget, passed: &[Mark], now: Timestamp, alerts: &mut Alerts) {
    let thresholds = passed.iter().filter_map(|mark| match mark.what {
        Marked::Threshold(threshold) => Some(CostAlertKind::Threshold { threshold }),
        Marked::Throttle | Marked::Kill => None,
    });
    let kinds = thresholds.chain(budget.excess()).collect::<Vec<_>>();
    alerts.extend(kinds.into_iter().map(|kind| alert(scope.clone(), budget, kind, now)));
}

fn alert(scope: CostScope, budget: &Budget, kind: CostAlertKind, at: Timestamp) -> CostAlert {
    let [spent_usd, limit_usd] = [budget.spent, budget.limit].map(Usd::from_nanos);
    CostAlert { at, scope, spent_usd, limit_usd, kind }
}

fn too_much(scope: CostScope, budget: &Budget, spend: &Spend<'_>) -> Refused {
    Refused::Budget { scope, left: budget.left(), limit: Usd::from_nanos(budget.limit), amount: spend.amount }
}

/// Locks. No user's code runs under these locks, so a poisoned one is whole still.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
