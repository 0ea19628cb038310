use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use smol_str::SmolStr;
use sre_core::{
    Clock, CostAlert, CostAlertKind, CostScope, CostStatus, LedgerBooks, LedgerEntry, Timestamp, Usd, lock,
    thread_number,
};

use crate::account::{Account, Hold, Unusual};
use crate::accounts::{Accounts, Name, SharedAccount};
use crate::budget::{Budget, Mark, Marked};
use crate::org::{Lease, Org, Taken};
use crate::period::{Calendar, Period};
use crate::shared::{Locked, NOWHERE, Places, Shared};
use crate::tasks::Tasks;
use crate::{Limits, Refused, Spend};

/// The books of everybody, for any number of threads.
///
/// A thread comes in by a *gate*, which no other uses as long as there are no more threads than gates: behind it are the
/// accounts that came by it before, and a lease of the organisation's limit. Within the gate's lock it takes its agent's,
/// within that those of shared budgets, and within those the organisation's, so that what it sees is what it decides by; and
/// threads that charge different agents touch nothing in common. Where the organisation's limit or threshold is near, and where
/// a day begins, a thread takes all gates, in their order, and is alone.
pub(crate) struct Books {
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    calendar: Calendar,
    gates: Box<[Gate]>,
    /// Every account. Locked by who has come in by a gate, or by none, and before an account is.
    accounts: Mutex<Accounts>,
    tasks: Box<[Mutex<Tasks>]>,
    org: Mutex<Org>,
    pub(crate) shared: Shared,
    /// When the first reservation expires, in nanoseconds.
    next_expiry: AtomicI64,
    /// Amounts of agents that found no room.
    pub(crate) overflow: AtomicU64,
}

pub(crate) const GATES: usize = 16;
const TASK_PARTS: usize = 16;

/// Cache lines of its own (two, for prefetched pairs).
#[repr(align(128))]
struct Gate(Mutex<Behind>);

/// What is behind a gate.
struct Behind {
    /// Some of all accounts.
    accounts: Accounts,
    lease: Lease,
    period: Period,
}

/// What an operation is given to act on.
struct Inside<'a> {
    account: Option<MutexGuard<'a, Account>>,
    lease: &'a mut Lease,
    period: Period,
    now: Timestamp,
    /// It has acted before, without all gates, and could not know.
    is_again: bool,
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
        let behind = || Behind { accounts: Accounts::default(), lease: Lease::default(), period };
        let tasks_each = limits.max_tasks.div_ceil(TASK_PARTS);
        Self {
            calendar,
            gates: (0..GATES).map(|_| Gate(Mutex::new(behind()))).collect(),
            accounts: Mutex::default(),
            tasks: (0..TASK_PARTS).map(|_| Mutex::new(Tasks::new(tasks_each))).collect(),
            org: Mutex::new(Org::new(Budget::new(limits.org_monthly, marks))),
            shared: Shared::new(&limits),
            next_expiry: AtomicI64::new(i64::MAX),
            overflow: AtomicU64::new(0),
            limits,
            clock,
        }
    }

    pub(crate) fn period(&self) -> Period {
        lock(&self.gates[0].0).period
    }

    /// Takes up what a ledger holds. What that has passed already was told before.
    pub(crate) fn take_up(&self, books: LedgerBooks) {
        let now = self.clock.now();
        for (agent, spent, tasks) in books.agents {
            if let Some(account) = self.account(Name::new(&agent), &(&*agent, spent).into()) {
                lock(&account).restore(spent, tasks, &self.limits, &self.clock);
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
            if let Some(account) = self.account(Name::new(&hold.agent), &spend) {
                let amount = hold.amount.nanos();
                lock(&account).hold(Hold { number: hold.number, amount, places, expires: hold.expires });
                self.shared.let_go(places, -amount);
                lock(&self.org).budget.reserved += amount;
                self.next_expiry.fetch_min(hold.expires.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    /// Whether an amount could be entered now.
    pub(crate) fn check(&self, spend: &Spend<'_>) -> (Result<(), Refused>, Alerts) {
        let amount = spend.amount.nanos();
        self.attempt(spend, |inside, _| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            if let Err(refused) = self.allows(&inside, spend, &self.shared.lock([places, NOWHERE])) {
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
        self.attempt(spend, |inside, alerts| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            let hold = settles.and_then(|number| inside.account.as_ref()?.find_hold(number));
            // An amount was reserved from the budgets of that time, which need not be those of now.
            let held_at = hold.map_or(NOWHERE, |hold| hold.places);
            let mut shared = self.shared.lock([places, held_at]);
            if mode == Mode::Ask
                && let Err(refused) = self.allows(&inside, spend, &shared)
            {
                return Attempt::Refused(refused);
            }
            let Inside { mut account, lease, period, now, .. } = inside;
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
            shared.at_mut(held_at).for_each(|(_, budget)| budget.reserved -= reserved);
            for (scope, budget) in shared.at_mut(places) {
                let passed = budget.spend(amount, now);
                tell(scope, budget, &passed, now, alerts);
            }
            let mut is_new_task = false;
            if let Some(account) = account.as_deref_mut() {
                if let Some(hold) = hold {
                    account.let_go(hold.number);
                }
                is_new_task = self.enter_task(account, spend, now, alerts);
                self.enter_account(account, spend, now, alerts);
            }
            Attempt::Done(Entered { places, period, now, is_new_task })
        })
    }

    /// Sets an amount aside.
    pub(crate) fn hold(&self, number: u64, spend: &Spend<'_>) -> (Result<Held, Refused>, Alerts) {
        let amount = spend.amount.nanos();
        let (held, alerts) = self.attempt(spend, |inside, _| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            let mut shared = self.shared.lock([places, NOWHERE]);
            if let Err(refused) = self.allows(&inside, spend, &shared) {
                return Attempt::Refused(refused);
            }
            // Without books of the agent's there is nothing to hold it in.
            let Some(mut account) = inside.account else {
                return Attempt::Refused(Refused::NoRoom { agent: spend.agent.to_owned() });
            };
            let mut org = lock(&self.org);
            match org.reserve(amount) {
                Taken::Done(_) => {}
                Taken::Refused => return Attempt::Refused(too_much(CostScope::Org, &org.budget, spend)),
                Taken::CallIn => return Attempt::CallIn,
            }
            drop(org);
            let expires = inside.now.saturating_add(self.limits.reservation_timeout);
            account.hold(Hold { number, amount, places, expires });
            shared.at_mut(places).for_each(|(_, budget)| budget.reserved += amount);
            Attempt::Done(Held { places, expires })
        });
        if let Ok(held) = &held {
            self.next_expiry.fetch_min(held.expires.as_nanos(), Ordering::Relaxed);
        }
        (held, alerts)
    }

    /// A reservation came to nothing; false where it is over already.
    pub(crate) fn release(&self, number: u64, agent: &str) -> bool {
        let account = lock(&self.accounts).get(Name::new(agent)).cloned();
        account.is_some_and(|account| self.let_go(&mut lock(&account), number))
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
        for (_, account) in self.all_accounts() {
            let mut account = lock(&account);
            for number in account.expired(now) {
                self.let_go(&mut account, number);
            }
            next = next.min(account.next_expiry().as_nanos());
        }
        self.next_expiry.fetch_min(next, Ordering::Relaxed);
    }

    /// Begins a new day, and a new month, if it is time: once, however long nobody came. Who was freed by it.
    pub(crate) fn roll(&self, now: Timestamp) -> Alerts {
        if now < self.period().day_end {
            return Vec::new();
        }
        let mut gates = self.all();
        let before = gates[0].period;
        if now < before.day_end {
            return Vec::new();
        }
        let period = self.calendar.at(now);
        if period.month != before.month {
            lock(&self.org).begin();
        }
        self.shared.budgets.iter().for_each(|(_, budget)| lock(budget).begin());
        for behind in &mut gates {
            behind.period = period;
            behind.accounts.clear();
        }
        // Who did nothing for a day makes room.
        lock(&self.accounts).retain(|account| !lock(account).is_idle());
        self.begin_day(None, now)
    }

    /// Begins the day of an agent, or everybody's, anew; the day it is, and who was freed.
    pub(crate) fn reset(&self, agent: Option<&str>, now: Timestamp) -> (Timestamp, Alerts) {
        (self.period().day, self.begin_day(agent, now))
    }

    fn begin_day(&self, agent: Option<&str>, now: Timestamp) -> Alerts {
        let mut freed = Vec::new();
        for (name, account) in self.all_accounts() {
            let mut account = lock(&account);
            if agent.is_none_or(|agent| name == agent) && account.begin() {
                let scope = CostScope::Agent(name.to_string());
                freed.push(alert(scope, &account.budget, CostAlertKind::Freed, now));
            }
        }
        freed
    }

    /// Reads an agent's books; `None` where it has none.
    pub(crate) fn read<R>(&self, agent: &str, read: impl FnOnce(&Account) -> R) -> Option<R> {
        let account = lock(&self.accounts).get(Name::new(agent)).cloned();
        account.map(|account| read(&lock(&account)))
    }

    /// Reads every agent's books.
    pub(crate) fn read_all<R>(&self, mut read: impl FnMut(&str, &Account) -> R) -> Vec<R> {
        self.all_accounts().iter().map(|(name, account)| read(name, &lock(account))).collect()
    }

    fn all_accounts(&self) -> Vec<(SmolStr, SharedAccount)> {
        lock(&self.accounts).iter().map(|(name, account)| (name.into(), account.clone())).collect()
    }

    /// Reads the organisation's books, with all leases called in.
    pub(crate) fn read_org<R>(&self, read: impl FnOnce(&Budget) -> R) -> R {
        let gates = self.all();
        let read = read(&lock(&self.org).budget);
        drop(gates);
        read
    }

    pub(crate) fn task(&self, agent: &str, task: &str) -> Option<crate::TaskCost> {
        self.tasks_of(agent).get(agent, task).cloned()
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

    fn tasks_of(&self, agent: &str) -> MutexGuard<'_, Tasks> {
        lock(&self.tasks[Name::new(agent).part(TASK_PARTS)])
    }

    /// What is behind every gate, with all leases called in.
    fn all(&self) -> Vec<MutexGuard<'_, Behind>> {
        let mut gates: Vec<_> = self.gates.iter().map(|gate| lock(&gate.0)).collect();
        let (mut org, now) = (lock(&self.org), self.clock.coarse_now());
        gates.iter_mut().for_each(|behind| org.call_in(&mut behind.lease, now));
        gates
    }

    /// Acts behind the thread's own gate; where that is not enough to know, while nobody else can come in.
    fn attempt<T>(
        &self,
        spend: &Spend<'_>,
        mut act: impl FnMut(Inside<'_>, &mut Alerts) -> Attempt<T>,
    ) -> (Result<T, Refused>, Alerts) {
        let now = self.clock.coarse_now();
        self.expire(now);
        let (name, gate, mut alerts) = (Name::new(spend.agent), thread_number() % GATES, Vec::new());
        let mut attempt = {
            let mut behind = lock(&self.gates[gate].0);
            let is_today = now < behind.period.day_end;
            if is_today {
                self.act(&mut behind, name, spend, (now, false), &mut act, &mut alerts)
            } else {
                Attempt::CallIn
            }
        };
        if matches!(attempt, Attempt::CallIn) {
            alerts.extend(self.roll(now));
            let mut gates = self.all();
            attempt = self.act(&mut gates[gate], name, spend, (now, true), &mut act, &mut alerts);
        }
        match attempt {
            Attempt::Done(result) => (Ok(result), alerts),
            Attempt::Refused(refused) => (Err(refused), alerts),
            Attempt::CallIn => unreachable!("every lease was called in"),
        }
    }

    #[inline]
    fn act<T>(
        &self,
        behind: &mut Behind,
        name: Name<'_>,
        spend: &Spend<'_>,
        (now, is_again): (Timestamp, bool),
        act: &mut impl FnMut(Inside<'_>, &mut Alerts) -> Attempt<T>,
        alerts: &mut Alerts,
    ) -> Attempt<T> {
        let Behind { accounts, lease, period } = behind;
        let mut account = accounts.get_or_add(name, || self.account(name, spend)).map(|account| lock(account));
        if let (Some(account), Some(team)) = (&mut account, spend.team)
            && account.rest.team.as_deref() != Some(team)
        {
            account.move_to(&self.limits, spend.agent, team, &self.clock);
        }
        act(Inside { account, lease, period: *period, now, is_again }, alerts)
    }

    /// The agent's account, made if need be and there is room.
    #[cold]
    fn account(&self, name: Name<'_>, spend: &Spend<'_>) -> Option<SharedAccount> {
        let mut accounts = lock(&self.accounts);
        let has_room = accounts.len() < self.limits.max_agents;
        let make = || {
            let new = || Arc::new(Mutex::new(Account::new(&self.limits, spend.agent, spend.team)));
            has_room.then(new)
        };
        let account = accounts.get_or_add(name, make).cloned();
        if account.is_none() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
        account
    }

    /// Whether everything but the organisation's limit allows it. Where the agent is slowed down, to be allowed takes its
    /// turn.
    fn allows(&self, inside: &Inside<'_>, spend: &Spend<'_>, shared: &Locked<'_>) -> Result<(), Refused> {
        let account = inside.account.as_deref();
        if let Some(account) = account.filter(|account| account.status == CostStatus::Killed) {
            return account.may_begin(spend.agent);
        }
        let spent_on = |task| self.tasks_of(spend.agent).get(spend.agent, task).map(|task| task.spent_usd);
        let before = spend.task.and_then(spent_on).unwrap_or_default();
        let (would_cost, limit) =
            (before + spend.amount, account.map_or(self.limits.per_task, |account| account.per_task));
        if would_cost > limit {
            return Err(Refused::Task { would_cost, limit });
        }
        if let Some(account) = account.filter(|account| !account.budget.fits(spend.amount.nanos())) {
            return Err(too_much(CostScope::Agent(spend.agent.to_owned()), &account.budget, spend));
        }
        if let Some((scope, budget)) = shared.all().find(|(_, budget)| !budget.fits(spend.amount.nanos())) {
            return Err(too_much(scope.clone(), budget, spend));
        }
        // Its turn was taken when it acted before.
        account.filter(|_| !inside.is_again).map_or(Ok(()), |account| account.may_begin(spend.agent))
    }

    /// Adds to the task, where one is named; whether it is new.
    fn enter_task(&self, account: &mut Account, spend: &Spend<'_>, now: Timestamp, alerts: &mut Alerts) -> bool {
        let Some(task) = spend.task else { return false };
        let (spent, is_new) = self.tasks_of(spend.agent).add(spend.agent, task, spend.amount, spend.breakdown, now);
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
