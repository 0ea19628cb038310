use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use sre_core::private::{lock, thread_number};
use sre_core::{Clock, CostAlert, CostAlertKind, CostScope, CostStatus, LedgerTotals, Timestamp, Usd};

use crate::account::{Account, AccountCell, OpenReservation};
use crate::accounts::{Accounts, AgentKey, SharedAccount};
use crate::budget::{Budget, ThresholdAction};
use crate::denied::Denied;
use crate::limits::Limits;
use crate::org::{Lease, OrgBudget};
use crate::period::{Calendar, Period};
use crate::shared_budgets::SharedBudgets;
use crate::spend::Spend;
use crate::tasks::{SavedTask, TaskCost, Tasks};

/// In-memory totals of spent and reserved amounts, for any number of threads.
///
/// Each thread works through a *shard* of its own, as long as there are no more threads than shards: it holds the accounts
/// that this thread has used, and a lease of the organisation's budget. Locks are taken in the order shard, account, shared
/// budgets, organisation, and held from the check to the charge. Threads that charge different agents share no memory. Near a
/// limit or threshold of the organisation, and at the start of a day, a thread locks all shards, in order, and works alone.
pub(crate) struct Ledger {
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    calendar: Calendar,
    shards: Box<[Shard]>,
    /// Every account. Locked after a shard, or without one, and before an account.
    accounts: Mutex<Accounts>,
    tasks: Box<[Mutex<Tasks>]>,
    pub(crate) org: Mutex<OrgBudget>,
    pub(crate) shared: SharedBudgets,
    /// When the first reservation expires, in nanoseconds.
    pub(crate) next_expiry: AtomicI64,
    /// Charges of agents without an account.
    pub(crate) overflow: AtomicU64,
}

const SHARDS: usize = 16;
const TASK_PARTITIONS: usize = 16;

/// Aligned to two cache lines, which processors prefetch in pairs.
#[repr(align(128))]
struct Shard(Mutex<ShardState>);

struct ShardState {
    /// Some of all accounts.
    accounts: Accounts,
    lease: Lease,
    period: Period,
}

/// What an operation on an agent's account works with.
pub(crate) struct ChargeContext<'a> {
    /// `None` if there are too many agents.
    pub(crate) account: Option<MutexGuard<'a, Account>>,
    pub(crate) lease: &'a mut Lease,
    pub(crate) period: Period,
    pub(crate) now: Timestamp,
    /// Whether all leases are revoked, because the first attempt ended in [`ChargeError::LeasesOutstanding`].
    pub(crate) is_retry: bool,
}

/// Why an operation on an agent's account did not succeed.
pub(crate) enum ChargeError {
    Denied(Denied),
    /// Retry with all leases revoked.
    LeasesOutstanding,
}

impl From<Denied> for ChargeError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

pub(crate) type Alerts = Vec<CostAlert>;

impl Ledger {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let calendar = Calendar(limits.time_zone.clone());
        let period = calendar.at(clock.now());
        let thresholds = ThresholdAction::alerts(&limits.alert_thresholds);
        let state = || ShardState { accounts: Accounts::default(), lease: Lease::default(), period };
        let max_tasks = limits.max_tasks.div_ceil(TASK_PARTITIONS);
        Self {
            calendar,
            shards: (0..SHARDS).map(|_| Shard(Mutex::new(state()))).collect(),
            accounts: Mutex::default(),
            tasks: (0..TASK_PARTITIONS).map(|_| Mutex::new(Tasks::new(max_tasks))).collect(),
            org: Mutex::new(OrgBudget::new(Budget::new(limits.org_monthly, thresholds), SHARDS)),
            shared: SharedBudgets::new(&limits),
            next_expiry: AtomicI64::new(i64::MAX),
            overflow: AtomicU64::new(0),
            limits,
            clock,
        }
    }

    pub(crate) fn period(&self) -> Period {
        lock(&self.shards[0].0).period
    }

    /// Restores totals and reservations from before a restart. Their alerts were sent then.
    pub(crate) fn restore(&self, totals: LedgerTotals) {
        let now = self.clock.now();
        for (agent, spent, tasks) in totals.agents {
            if let Some(account) = self.account(AgentKey::new(&agent), None) {
                let mut account = lock(&account);
                account.details.tasks_today += tasks;
                account.overall.restore(spent.nanos(), &self.limits, &self.clock);
            }
        }
        for (agent, model, spent) in totals.models {
            if let Some(account) = self.account(AgentKey::new(&agent), None)
                && let Some(model) = self.shared.per_agent_id(Some(&model))
            {
                let make = || self.shared.new_agent_budget(&self.limits, model);
                lock(&account).on_model_mut(model, make).restore(spent.nanos(), &self.limits, &self.clock);
            }
        }
        for (name, spent) in totals.shared {
            let ids = self.shared.ids_of_names(&[name], None);
            self.shared.get(ids).for_each(|(_, budget)| drop(lock(budget).spend(spent.nanos(), now)));
        }
        lock(&self.org).budget.spend(totals.org.nanos(), now);
        for open in totals.reservations {
            let budgets = self.shared.ids_of_names(&open.shared, open.model.as_deref());
            if let Some(account) = self.account(AgentKey::new(&open.agent), None) {
                let amount = open.amount.nanos();
                let mut account = lock(&account);
                if let Some(model) = budgets.on_model {
                    account.on_model_mut(model, || self.shared.new_agent_budget(&self.limits, model));
                }
                account.reserve(OpenReservation { id: open.id, amount, budgets, expires: open.expires });
                self.shared.add_reserved(budgets, amount);
                lock(&self.org).budget.add_reserved(amount);
                self.next_expiry.fetch_min(open.expires.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    /// Returns what was spent in the day and month, without reservations.
    pub(crate) fn totals(&self) -> LedgerTotals {
        let mut totals = LedgerTotals::default();
        totals.org = self.read_org(|org| Usd::from_nanos(org.spent));
        self.read_all(|agent, account| {
            let spent = Usd::from_nanos(account.overall.budget.spent);
            totals.agents.push((agent.to_owned(), spent, account.details.tasks_today));
            for (model, state) in account.on_models() {
                let spent = Usd::from_nanos(state.budget.spent);
                totals.models.push((agent.to_owned(), self.shared.model_name(model).to_owned(), spent));
            }
        });
        let shared = self.shared.budgets.iter();
        totals.shared = shared.map(|(scope, of)| (scope.to_string(), Usd::from_nanos(lock(of).spent))).collect();
        totals
    }

    /// Returns what the most recent tasks have cost, which decides whether a cost is the first of a task.
    pub(crate) fn task_costs(&self) -> Vec<SavedTask> {
        let saved = |task: &TaskCost| task.saved(|model| self.shared.model_name(model));
        self.tasks.iter().flat_map(|tasks| lock(tasks).iter().map(saved).collect::<Vec<_>>()).collect()
    }

    /// Restores what [`task_costs`](Self::task_costs) returned.
    pub(crate) fn restore_task_costs(&self, tasks: Vec<SavedTask>) {
        for saved in tasks {
            let task = TaskCost::restored(saved, |model| self.shared.per_agent_id(Some(model)));
            self.tasks_of(&task.agent).restore(task);
        }
    }

    /// Ends a reservation before it is spent, unless it has ended already.
    pub(crate) fn release(&self, id: u64, agent: &str) {
        if let Some(account) = self.find(agent) {
            self.release_from(&mut lock(&account), id);
        }
    }

    fn release_from(&self, account: &mut Account, id: u64) {
        if let Some(ended) = account.release(id) {
            self.shared.add_reserved(ended.budgets, -ended.amount);
            lock(&self.org).budget.add_reserved(-ended.amount);
        }
    }

    /// Releases expired reservations. A ledger store ignores them by itself.
    #[inline]
    pub(crate) fn expire(&self, now: Timestamp) {
        if now.as_nanos() >= self.next_expiry.load(Ordering::Relaxed) {
            self.release_expired(now);
        }
    }

    #[cold]
    fn release_expired(&self, now: Timestamp) {
        // A concurrent reservation lowers this again by its own expiry.
        self.next_expiry.store(i64::MAX, Ordering::Relaxed);
        let mut next = i64::MAX;
        for account in self.all_accounts() {
            let mut account = lock(&account);
            for id in account.expired(now) {
                self.release_from(&mut account, id);
            }
            next = next.min(account.next_expiry().as_nanos());
        }
        self.next_expiry.fetch_min(next, Ordering::Relaxed);
    }

    /// Starts a new day, and a new month, if it is time. Returns an alert for each agent that this unblocks.
    pub(crate) fn roll_over(&self, now: Timestamp) -> Alerts {
        if now < self.period().day_end {
            return Vec::new();
        }
        let mut shards = self.lock_all();
        let before = shards[0].period;
        if now < before.day_end {
            return Vec::new();
        }
        let period = self.calendar.at(now);
        if period.month != before.month {
            lock(&self.org).start_month();
        }
        self.shared.budgets.iter().for_each(|(_, budget)| lock(budget).start_period());
        for shard in &mut shards {
            shard.period = period;
            shard.accounts.clear();
        }
        // Agents that were idle for a day no longer count toward `max_agents`.
        lock(&self.accounts).retain(|account| !lock(account).is_idle());
        self.start_day(None, now)
    }

    /// Restarts the day of an agent, or of all. Returns the day, and an alert for each agent that this unblocks.
    pub(crate) fn reset_day(&self, agent: Option<&str>, now: Timestamp) -> (Timestamp, Alerts) {
        (self.period().day, self.start_day(agent, now))
    }

    fn start_day(&self, agent: Option<&str>, now: Timestamp) -> Alerts {
        let mut alerts = Vec::new();
        for account in self.all_accounts() {
            let name = account.name();
            if agent.is_none_or(|agent| name == agent) {
                alerts.extend(lock(&account).start_day().into_iter().map(|(model, state)| {
                    state.budget.alert(self.shared.agent_scope(name, model), CostAlertKind::Unblocked, now)
                }));
            }
        }
        alerts
    }

    /// Throttles an agent because of an objective; `key` is that of its incident. Returns an alert unless the agent was
    /// throttled or blocked already.
    pub(crate) fn throttle(&self, agent: &str, key: &str, slo: &str, now: Timestamp) -> Alerts {
        let kind = || CostAlertKind::Throttled { slo: Some(slo.to_owned()) };
        let account = self.account(AgentKey::new(agent), None);
        self.change_throttle(account, agent, now, kind, |account| account.throttle(key, &self.limits, &self.clock))
    }

    /// Ends what an objective throttles. Returns an alert if this unblocks the agent.
    pub(crate) fn end_throttle(&self, agent: &str, key: &str, now: Timestamp) -> Alerts {
        self.change_throttle(
            self.find(agent),
            agent,
            now,
            || CostAlertKind::Unblocked,
            |account| account.end_throttle(key),
        )
    }

    /// Returns the agents that objectives throttle, each with the key of the objective's incident.
    pub(crate) fn throttled_by(&self) -> Vec<(String, String)> {
        let pairs = self.read_all(|agent, account| {
            let keys = account.details.throttled_by.iter();
            keys.map(|key| (agent.to_owned(), key.clone())).collect::<Vec<_>>()
        });
        pairs.into_iter().flatten().collect()
    }

    /// Returns the status of an agent's budget, overall or on a model.
    pub(crate) fn status(&self, scope: &CostScope) -> CostStatus {
        let (_, agent, model) = scope.parts();
        let status = self.read(agent, |account| match model {
            None => account.overall.status,
            Some(model) => {
                let id = self.shared.per_agent_id(Some(model));
                account.on_model(id).map_or(CostStatus::Ok, |state| state.status)
            }
        });
        status.unwrap_or_default()
    }

    fn change_throttle(
        &self,
        account: Option<SharedAccount>,
        agent: &str,
        now: Timestamp,
        kind: impl FnOnce() -> CostAlertKind,
        change: impl FnOnce(&mut Account) -> bool,
    ) -> Alerts {
        let Some(account) = account else { return Vec::new() };
        let mut account = lock(&account);
        let is_changed = change(&mut account);
        let alert = || account.overall.budget.alert(self.shared.agent_scope(agent, None), kind(), now);
        is_changed.then(alert).into_iter().collect()
    }

    /// Reads an agent's account; `None` if it has none.
    pub(crate) fn read<R>(&self, agent: &str, read: impl FnOnce(&Account) -> R) -> Option<R> {
        self.find(agent).map(|account| read(&lock(&account)))
    }

    /// Reads every agent's account.
    pub(crate) fn read_all<R>(&self, mut read: impl FnMut(&str, &Account) -> R) -> Vec<R> {
        self.all_accounts().iter().map(|account| read(account.name(), &lock(account))).collect()
    }

    /// Returns the accounts by name: the order of the table depends on its past, which a restart changes.
    fn all_accounts(&self) -> Vec<SharedAccount> {
        let mut all: Vec<SharedAccount> = lock(&self.accounts).iter().cloned().collect();
        all.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Reads the organisation's budget, with all leases revoked.
    pub(crate) fn read_org<R>(&self, read: impl FnOnce(&Budget) -> R) -> R {
        let _shards = self.lock_all();
        read(&lock(&self.org).budget)
    }

    pub(crate) fn task(&self, agent: &str, task: &str) -> Option<TaskCost> {
        self.tasks_of(agent).get(agent, task).cloned()
    }

    pub(crate) fn tasks_of(&self, agent: &str) -> MutexGuard<'_, Tasks> {
        lock(&self.tasks[AgentKey::new(agent).partition(TASK_PARTITIONS)])
    }

    /// Locks every shard, and revokes its lease.
    fn lock_all(&self) -> Vec<MutexGuard<'_, ShardState>> {
        let mut shards: Vec<_> = self.shards.iter().map(|shard| lock(&shard.0)).collect();
        let (mut org, now) = (lock(&self.org), self.clock.coarse_now());
        shards.iter_mut().for_each(|shard| org.revoke(&mut shard.lease, now));
        shards
    }

    /// Runs an operation on the agent's account through the thread's own shard, or with all shards locked if the operation
    /// needs all leases revoked or a new day has begun.
    pub(crate) fn run<T>(
        &self,
        spend: &Spend<'_>,
        mut operation: impl FnMut(ChargeContext<'_>, &mut Alerts) -> Result<T, ChargeError>,
    ) -> (Result<T, Denied>, Alerts) {
        let now = self.clock.coarse_now();
        self.expire(now);
        let (key, shard, mut alerts) = (AgentKey::new(spend.agent), thread_number() % SHARDS, Vec::new());
        let mut result = {
            let mut state = lock(&self.shards[shard].0);
            if now < state.period.day_end {
                self.run_on(&mut state, key, spend, (now, false), &mut operation, &mut alerts)
            } else {
                Err(ChargeError::LeasesOutstanding)
            }
        };
        if matches!(result, Err(ChargeError::LeasesOutstanding)) {
            alerts.extend(self.roll_over(now));
            let mut shards = self.lock_all();
            result = self.run_on(&mut shards[shard], key, spend, (now, true), &mut operation, &mut alerts);
        }
        let result = result.map_err(|error| match error {
            ChargeError::Denied(denied) => denied,
            ChargeError::LeasesOutstanding => unreachable!("all leases were revoked"),
        });
        (result, alerts)
    }

    #[inline]
    fn run_on<T>(
        &self,
        state: &mut ShardState,
        key: AgentKey<'_>,
        spend: &Spend<'_>,
        (now, is_retry): (Timestamp, bool),
        operation: &mut impl FnMut(ChargeContext<'_>, &mut Alerts) -> Result<T, ChargeError>,
        alerts: &mut Alerts,
    ) -> Result<T, ChargeError> {
        let ShardState { accounts, lease, period } = state;
        let mut account = accounts.get_or_insert(key, || self.account(key, spend.team)).map(|account| lock(account));
        if let (Some(account), Some(team)) = (&mut account, spend.team)
            && account.details.team.as_deref() != Some(team)
        {
            account.set_team(&self.limits, spend.agent, team, &self.clock);
        }
        if let (Some(account), Some(model)) = (&mut account, self.shared.per_agent_id(spend.model)) {
            account.on_model_mut(model, || self.shared.new_agent_budget(&self.limits, model));
        }
        operation(ChargeContext { account, lease, period: *period, now, is_retry }, alerts)
    }

    fn find(&self, agent: &str) -> Option<SharedAccount> {
        lock(&self.accounts).get(AgentKey::new(agent)).cloned()
    }

    /// Returns the agent's account, created on first use; `None` if there are too many.
    #[cold]
    fn account(&self, key: AgentKey<'_>, team: Option<&str>) -> Option<SharedAccount> {
        let mut accounts = lock(&self.accounts);
        let is_full = accounts.len() >= self.limits.max_agents;
        let new = || Arc::new(AccountCell::new(key.name(), Account::new(&self.limits, key.name(), team)));
        let account = accounts.get_or_insert(key, || (!is_full).then(new)).cloned();
        if account.is_none() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
        account
    }
}
