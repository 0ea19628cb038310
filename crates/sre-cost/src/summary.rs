use serde::Serialize;
use sre_core::{BudgetSnapshot, CostScope, CostStatus, CostsSnapshot, Timestamp, Usd, lock};

use crate::CostGuard;
use crate::account::Account;
use crate::budget::Budget;

/// An agent's budget of a day, as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentBudget {
    /// Whose.
    pub agent: String,
    /// What it may spend a day.
    pub daily_limit_usd: Usd,
    /// What a task of its may cost.
    pub per_task_limit_usd: Usd,
    /// What it has spent today.
    pub spent_today_usd: Usd,
    /// What is reserved for calls that go on.
    pub reserved_usd: Usd,
    /// On how many tasks.
    pub tasks_today: u64,
    /// What it may do.
    pub status: CostStatus,
}

/// What everybody has spent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostSummary {
    /// Every agent that has spent something today or the day before, by name.
    pub agents: Vec<AgentBudget>,
    /// What everybody has spent this month.
    pub org_spent_month_usd: Usd,
    /// What everybody may spend this month still, less what is reserved.
    pub org_remaining_month_usd: Usd,
    /// What everybody may spend a month.
    pub org_monthly_limit_usd: Usd,
    /// The alerts that are kept.
    pub alerts: usize,
}

impl AgentBudget {
    /// Whether it is slowed down.
    pub fn throttled(&self) -> bool {
        self.status == CostStatus::Throttled
    }

    /// Whether it is refused.
    pub fn killed(&self) -> bool {
        self.status == CostStatus::Killed
    }

    /// What it may spend today still, less what is reserved.
    pub fn remaining_today_usd(&self) -> Usd {
        let used = self.spent_today_usd + self.reserved_usd;
        self.daily_limit_usd.checked_sub(used).unwrap_or_default().max(Usd::ZERO)
    }

    /// What it has spent of its daily limit, in percent; `None` where the limit is nothing.
    pub fn utilization_percent(&self) -> Option<f64> {
        let limit = self.daily_limit_usd.as_dollars();
        (limit > 0.0).then(|| self.spent_today_usd.as_dollars() / limit * 100.0)
    }

    /// What a task has cost today, on average; `None` without tasks.
    pub fn avg_cost_per_task(&self) -> Option<Usd> {
        let tasks = i64::try_from(self.tasks_today).ok().filter(|tasks| *tasks > 0)?;
        Some(Usd::from_nanos(self.spent_today_usd.nanos() / tasks))
    }

    fn of(agent: &str, account: &Account) -> Self {
        Self {
            agent: agent.to_owned(),
            daily_limit_usd: Usd::from_nanos(account.own.budget.limit),
            per_task_limit_usd: account.own.per_task,
            spent_today_usd: Usd::from_nanos(account.own.budget.spent),
            reserved_usd: Usd::from_nanos(account.own.budget.reserved),
            tasks_today: account.rest.tasks,
            status: account.own.status,
        }
    }
}

impl CostGuard {
    /// An agent's budget; for one that has spent nothing, what it may spend.
    pub fn get_budget(&self, agent: &str) -> AgentBudget {
        self.evaluate_at(self.books.clock.now());
        self.books
            .read(agent, |account| AgentBudget::of(agent, account))
            .unwrap_or_else(|| AgentBudget::of(agent, &Account::new(&self.books.limits, agent, None)))
    }

    /// What everybody has spent.
    pub fn summary(&self) -> CostSummary {
        self.evaluate_at(self.books.clock.now());
        let mut agents = self.books.read_all(AgentBudget::of);
        agents.sort_by(|one, other| one.agent.cmp(&other.agent));
        self.books.read_org(|org| CostSummary {
            agents,
            org_spent_month_usd: Usd::from_nanos(org.spent),
            org_remaining_month_usd: org.left(),
            org_monthly_limit_usd: Usd::from_nanos(org.limit),
            alerts: self.alerts().len(),
        })
    }

    /// All budgets, and when they run out.
    pub fn snapshot_at(&self, now: Timestamp) -> CostsSnapshot {
        self.evaluate_at(now);
        let period = self.books.period();
        let budget = |scope, budget: &Budget, status, end| {
            let [spent_usd, reserved_usd, limit_usd] =
                [budget.spent, budget.reserved, budget.limit].map(Usd::from_nanos);
            let exhausted_at = budget.exhausted_at(now, end);
            BudgetSnapshot { scope, spent_usd, reserved_usd, limit_usd, status, exhausted_at }
        };
        let mut budgets = Vec::new();
        self.books.read_all(|agent, account| {
            let on_models = account.on_models().filter(|(_, allowance)| allowance.is_limited());
            let on_models = on_models.map(|(model, allowance)| (Some(model), allowance));
            for (model, allowance) in std::iter::once((None, &account.own)).chain(on_models) {
                let scope = self.books.shared.scope(agent, model);
                budgets.push(budget(scope, &allowance.budget, allowance.status, period.day_end));
            }
        });
        let shared = self.books.shared.budgets.iter();
        budgets.extend(shared.map(|(scope, of)| budget(scope.clone(), &lock(of), CostStatus::Ok, period.day_end)));
        budgets.push(self.books.read_org(|org| budget(CostScope::Org, org, CostStatus::Ok, period.month_end)));
        budgets.sort_by(|one, other| one.scope.cmp(&other.scope));
        let (lost_signals, store_failures) = self.failures();
        let overflow = self.books.overflow.load(std::sync::atomic::Ordering::Relaxed);
        CostsSnapshot { budgets, lost_signals, store_failures, overflow }
    }
}
