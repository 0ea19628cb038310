use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use smol_str::SmolStr;
use sre_core::{Clock, CostAlertKind, LedgerBooks, Timestamp, Usd, lock, thread_number};

use crate::account::{Account, Hold};
use crate::accounts::{Accounts, Name, SharedAccount};
use crate::budget::{Budget, Marked};
use crate::operations::{Alerts, alert};
use crate::org::{Lease, Org};
use crate::period::{Calendar, Period};
use crate::shared::Shared;
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
    pub(crate) accounts: Mutex<Accounts>,
    tasks: Box<[Mutex<Tasks>]>,
    pub(crate) org: Mutex<Org>,
    pub(crate) shared: Shared,
    /// When the first reservation expires, in nanoseconds.
    pub(crate) next_expiry: AtomicI64,
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
pub(crate) struct Inside<'a> {
    pub(crate) account: Option<MutexGuard<'a, Account>>,
    pub(crate) lease: &'a mut Lease,
    pub(crate) period: Period,
    pub(crate) now: Timestamp,
    /// It has acted before, without all gates, and could not know.
    pub(crate) is_again: bool,
}

/// What came of an attempt on one part of the books.
pub(crate) enum Attempt<T> {
    Done(T),
    Refused(Refused),
    /// All leases must be called in to know.
    CallIn,
}

impl Books {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let calendar = Calendar(limits.time_zone.clone());
        let period = calendar.at(clock.now());
        let marks = Marked::thresholds(&limits.alert_thresholds);
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
                let mut account = lock(&account);
                account.rest.tasks = tasks;
                account.own.restore(spent.nanos(), &self.limits, &self.clock);
            }
        }
        for (agent, model, spent) in books.models {
            if let Some(account) = self.account(Name::new(&agent), &(&*agent, spent).into())
                && let Some(model) = self.shared.each_on(Some(&model))
            {
                let make = || self.shared.allowance(&self.limits, model);
                lock(&account).on_model_mut(model, make).restore(spent.nanos(), &self.limits, &self.clock);
            }
        }
        for (name, spent) in books.shared {
            let places = self.shared.places_of(&[name], None);
            self.shared.at(places).for_each(|(_, budget)| drop(lock(budget).spend(spent.nanos(), now)));
        }
        lock(&self.org).budget.spend(books.org.nanos(), now);
        for hold in books.holds {
            let places = self.shared.places_of(&hold.shared, hold.model.as_deref());
            let spend = (&*hold.agent, hold.amount).into();
            if let Some(account) = self.account(Name::new(&hold.agent), &spend) {
                let amount = hold.amount.nanos();
                let mut account = lock(&account);
                if let Some(model) = places.on_model {
                    account.on_model_mut(model, || self.shared.allowance(&self.limits, model));
                }
                account.hold(Hold { number: hold.number, amount, places, expires: hold.expires });
                self.shared.let_go(places, -amount);
                lock(&self.org).budget.reserved += amount;
                self.next_expiry.fetch_min(hold.expires.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    /// What a ledger would hold of it, reservations left out.
    pub(crate) fn held(&self) -> LedgerBooks {
        let mut books = LedgerBooks { org: self.read_org(|org| Usd::from_nanos(org.spent)), ..LedgerBooks::default() };
        self.read_all(|agent, account| {
            let spent = Usd::from_nanos(account.own.budget.spent);
            books.agents.push((agent.to_owned(), spent, account.rest.tasks));
            for (model, allowance) in account.on_models() {
                let spent = Usd::from_nanos(allowance.budget.spent);
                books.models.push((agent.to_owned(), self.shared.model_at(model).to_owned(), spent));
            }
        });
        let shared = self.shared.budgets.iter();
        books.shared = shared.map(|(scope, of)| (scope.to_string(), Usd::from_nanos(lock(of).spent))).collect();
        books
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
            if agent.is_none_or(|agent| name == agent) {
                let of_account = account.begin().into_iter();
                freed.extend(of_account.map(|(model, allowance)| {
                    alert(self.shared.scope(&name, model), &allowance.budget, CostAlertKind::Freed, now)
                }));
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

    pub(crate) fn tasks_of(&self, agent: &str) -> MutexGuard<'_, Tasks> {
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
    pub(crate) fn attempt<T>(
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
        if let (Some(account), Some(model)) = (&mut account, self.shared.each_on(spend.model)) {
            account.on_model_mut(model, || self.shared.allowance(&self.limits, model));
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
}
