use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize, Serializer};
use sre_core::private::lock;
use sre_core::{BudgetSnapshot, CostScope, CostStatus, CostsSnapshot, Timestamp, Usd};

use crate::account::Account;
use crate::budget::Budget;
use crate::guard::CostGuard;

/// An agent's daily budget at a moment. Its JSON also has what follows from the fields: `remaining_usd`,
/// `utilization_percent` and `avg_cost_per_task`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct AgentBudget {
    /// The agent.
    pub agent: String,
    /// The limit per day.
    pub daily_limit_usd: Usd,
    /// The limit per task.
    pub per_task_limit_usd: Usd,
    /// The amount spent today.
    pub spent_today_usd: Usd,
    /// The amount reserved for calls in progress.
    pub reserved_usd: Usd,
    /// The number of tasks with costs today.
    pub tasks_today: u64,
    /// Whether the agent is throttled or blocked.
    pub status: CostStatus,
}

/// What all agents have spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CostSummary {
    /// Every agent that spent something today or on the previous day, by name.
    pub agents: Vec<AgentBudget>,
    /// The amount that the organisation has spent this month.
    pub org_spent_month_usd: Usd,
    /// The amount that the organisation has neither spent nor reserved this month.
    pub org_remaining_month_usd: Usd,
    /// The organisation's limit per month.
    pub org_monthly_limit_usd: Usd,
    /// The number of alerts that [`CostGuard::alerts`] returns.
    pub alerts: usize,
}

impl AgentBudget {
    /// Returns whether the agent is throttled.
    pub fn throttled(&self) -> bool {
        self.status == CostStatus::Throttled
    }

    /// Returns whether the agent is blocked until the next day or a reset.
    pub fn killed(&self) -> bool {
        self.status == CostStatus::Killed
    }

    /// Returns what the agent has neither spent nor reserved today.
    pub fn remaining_today_usd(&self) -> Usd {
        let used = self.spent_today_usd + self.reserved_usd;
        self.daily_limit_usd.checked_sub(used).unwrap_or_default().max(Usd::ZERO)
    }

    /// Returns the spent part of the daily limit in percent; `None` if the limit is 0.
    pub fn utilization_percent(&self) -> Option<f64> {
        self.spent_today_usd.percent_of(self.daily_limit_usd)
    }

    /// Returns the mean cost of today's tasks; `None` without tasks.
    pub fn avg_cost_per_task(&self) -> Option<Usd> {
        let tasks = i64::try_from(self.tasks_today).ok().filter(|tasks| *tasks > 0)?;
        Some(Usd::from_nanos(self.spent_today_usd.nanos() / tasks))
    }

    /// Returns the fields of `AgentBudget.to_dict` in the Python package `agent-sre`.
    pub fn to_dict(&self) -> serde_json::Value {
        serde_json::json!({
            "agent_id": self.agent,
            "daily_limit_usd": self.daily_limit_usd,
            "per_task_limit_usd": self.per_task_limit_usd,
            "spent_today_usd": self.spent_today_usd,
            "remaining_today_usd": self.remaining_today_usd(),
            "utilization_percent": self.utilization_percent(),
            "task_count_today": self.tasks_today,
            "avg_cost_per_task": self.avg_cost_per_task(),
            "throttled": self.throttled(),
            "killed": self.killed(),
        })
    }

    fn of(agent: &str, account: &Account) -> Self {
        Self {
            agent: agent.to_owned(),
            daily_limit_usd: Usd::from_nanos(account.overall.budget.limit()),
            per_task_limit_usd: account.overall.per_task,
            spent_today_usd: Usd::from_nanos(account.overall.budget.spent),
            reserved_usd: Usd::from_nanos(account.overall.budget.reserved()),
            tasks_today: account.details.tasks_today,
            status: account.overall.status,
        }
    }
}

impl CostSummary {
    /// Returns the fields of `CostGuard.summary` in the Python package `agent-sre`; `total_records` is the number of tasks with costs
    /// today, since single costs are not kept.
    pub fn to_dict(&self) -> serde_json::Value {
        let agents: BTreeMap<&str, _> = self.agents.iter().map(|budget| (&*budget.agent, budget.to_dict())).collect();
        serde_json::json!({
            "org_monthly_budget": self.org_monthly_limit_usd,
            "org_spent_month": self.org_spent_month_usd,
            "org_remaining_month": self.org_remaining_month_usd,
            "total_records": self.agents.iter().map(|budget| budget.tasks_today).sum::<u64>(),
            "total_alerts": self.alerts,
            "agents": agents,
        })
    }
}

impl Serialize for AgentBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            agent: &'a str,
            daily_limit_usd: Usd,
            per_task_limit_usd: Usd,
            spent_today_usd: Usd,
            reserved_usd: Usd,
            remaining_usd: Usd,
            utilization_percent: Option<f64>,
            tasks_today: u64,
            avg_cost_per_task: Option<Usd>,
            status: CostStatus,
        }
        let fields = Fields {
            agent: &self.agent,
            daily_limit_usd: self.daily_limit_usd,
            per_task_limit_usd: self.per_task_limit_usd,
            spent_today_usd: self.spent_today_usd,
            reserved_usd: self.reserved_usd,
            remaining_usd: self.remaining_today_usd(),
            utilization_percent: self.utilization_percent(),
            tasks_today: self.tasks_today,
            avg_cost_per_task: self.avg_cost_per_task(),
            status: self.status,
        };
        fields.serialize(serializer)
    }
}

impl CostGuard {
    /// Returns an agent's budget, also for an agent that has spent nothing yet.
    pub fn budget(&self, agent: &str) -> AgentBudget {
        self.evaluate_at(self.ledger.clock.now());
        self.ledger
            .read(agent, |account| AgentBudget::of(agent, account))
            .unwrap_or_else(|| AgentBudget::of(agent, &Account::new(&self.ledger.limits, agent, None)))
    }

    /// Alias of [`budget`](Self::budget), the name in the Python package `agent-sre`.
    pub fn get_budget(&self, agent: &str) -> AgentBudget {
        self.budget(agent)
    }

    /// Returns what all agents have spent.
    pub fn summary(&self) -> CostSummary {
        self.evaluate_at(self.ledger.clock.now());
        let mut agents = self.ledger.read_all(AgentBudget::of);
        agents.sort_by(|one, other| one.agent.cmp(&other.agent));
        self.ledger.read_org(|org| CostSummary {
            agents,
            org_spent_month_usd: Usd::from_nanos(org.spent),
            org_remaining_month_usd: org.left(),
            org_monthly_limit_usd: Usd::from_nanos(org.limit()),
            alerts: self.alerts().len(),
        })
    }

    /// Returns every budget, and when it will be spent at the current rate.
    pub fn snapshot_at(&self, now: Timestamp) -> CostsSnapshot {
        self.evaluate_at(now);
        let period = self.ledger.period();
        let budget = |scope, budget: &Budget, status, end| {
            let [spent_usd, reserved_usd, limit_usd] =
                [budget.spent, budget.reserved(), budget.limit()].map(Usd::from_nanos);
            let mut snapshot = BudgetSnapshot::new(scope, limit_usd);
            (snapshot.spent_usd, snapshot.reserved_usd) = (spent_usd, reserved_usd);
            (snapshot.remaining_usd, snapshot.utilization_percent) = (budget.left(), spent_usd.percent_of(limit_usd));
            (snapshot.status, snapshot.exhausted_at) = (status, budget.exhausted_at(now, end));
            snapshot
        };
        let mut budgets = Vec::new();
        self.ledger.read_all(|agent, account| {
            let on_models = account.on_models().filter(|(_, state)| state.is_limited());
            let on_models = on_models.map(|(model, state)| (Some(model), state));
            for (model, state) in std::iter::once((None, &account.overall)).chain(on_models) {
                let scope = self.ledger.shared.agent_scope(agent, model);
                let mut snapshot = budget(scope, &state.budget, state.status, period.day_end);
                if model.is_none() {
                    snapshot.avg_cost_per_task = AgentBudget::of(agent, account).avg_cost_per_task();
                }
                budgets.push(snapshot);
            }
        });
        let shared = self.ledger.shared.budgets.iter();
        budgets.extend(shared.map(|(scope, of)| budget(scope.clone(), &lock(of), CostStatus::Ok, period.day_end)));
        budgets.push(self.ledger.read_org(|org| budget(CostScope::Org, org, CostStatus::Ok, period.month_end)));
        budgets.sort_by(|one, other| one.scope.cmp(&other.scope));
        let mut snapshot = CostsSnapshot::default();
        snapshot.budgets = budgets;
        (snapshot.lost_signals, snapshot.store_failures) = self.failures();
        snapshot.overflow = self.ledger.overflow.load(Ordering::Relaxed);
        snapshot
    }
}
