use std::collections::BTreeMap;

use agent_sre::cost::{CostGuard, Pricing};
use agent_sre::{
    AgentReport, AgentTotals, CostAlert, CostAlertKind, CostStatus, Phase, Runtime, Severity, Signal, Timestamp, Usd,
};

/// How model calls were priced, and the results of `--limits`.
#[derive(Clone, serde::Serialize)]
pub(crate) struct CostFindings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prices: Option<PriceFindings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) costs: Option<LimitFindings>,
}

/// Model calls by how they were priced.
#[derive(Clone, serde::Serialize)]
pub(crate) struct PriceFindings {
    /// The date of the public list prices, if there is no file of prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_list: Option<&'static str>,
    /// Calls priced by the file or the list.
    pub(crate) priced: u64,
    /// Calls without a cost whose model has no price, by model.
    pub(crate) unknown_calls: BTreeMap<String, u64>,
    /// Calls whose own cost equals the price, within 1 %.
    pub(crate) matched: u64,
    /// Calls whose own cost differs from the price by more than 1 %.
    pub(crate) mismatched: u64,
    /// The sum of those differences.
    pub(crate) difference_usd: Usd,
}

/// The budgets at the end of the input.
#[derive(Clone, serde::Serialize)]
pub(crate) struct LimitFindings {
    pub(crate) agents: Vec<AgentFinding>,
    pub(crate) org: OrgFinding,
    /// The first 1,000 alerts.
    pub(crate) alerts: Vec<CostAlert>,
    pub(crate) unknown_models: Vec<String>,
    /// For `--notify`: see [`signals`].
    #[serde(skip)]
    pub(crate) signals: Vec<Signal>,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct AgentFinding {
    pub(crate) agent: String,
    /// Spent on the last day of the input.
    pub(crate) spent_usd: Usd,
    pub(crate) limit_usd: Usd,
    pub(crate) remaining_usd: Usd,
    pub(crate) utilization_percent: Option<f64>,
    /// The mean cost of the tasks of that day.
    pub(crate) avg_cost_per_task: Option<Usd>,
    pub(crate) status: CostStatus,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct OrgFinding {
    /// Spent in the last month of the input.
    pub(crate) spent_usd: Usd,
    pub(crate) limit_usd: Usd,
    pub(crate) remaining_usd: Usd,
    pub(crate) utilization_percent: Option<f64>,
}

impl CostFindings {
    /// Returns the results of the runtime's pricing and cost guard at `at`, with the alerts that were raised.
    pub(crate) fn of(
        runtime: &Runtime,
        alerts: Vec<CostAlert>,
        public_list: Option<&'static str>,
        at: Timestamp,
    ) -> Option<Self> {
        let pricing = runtime.get::<Pricing>()?;
        let report = pricing.report();
        let unknown_models = report.unknown_models.keys().cloned().collect();
        let prices = PriceFindings {
            public_list,
            priced: report.priced,
            unknown_calls: report.unknown_models,
            matched: report.matched,
            mismatched: report.mismatched,
            difference_usd: report.difference,
        };
        let guard = runtime.get::<CostGuard>();
        let costs = guard.map(|guard| LimitFindings::of(&guard, runtime, alerts, unknown_models, at));
        // The built-in prices are reported only if there were model calls to price.
        let is_reported = public_list.is_none() || prices.priced > 0 || !prices.unknown_calls.is_empty();
        let prices = is_reported.then_some(prices);
        (prices.is_some() || costs.is_some()).then_some(Self { prices, costs })
    }
}

impl LimitFindings {
    fn of(
        guard: &CostGuard,
        runtime: &Runtime,
        alerts: Vec<CostAlert>,
        unknown_models: Vec<String>,
        at: Timestamp,
    ) -> Self {
        let agents = runtime.get::<AgentTotals>().map(|totals| totals.agents()).unwrap_or_default();
        let spenders = agents.into_iter().filter(|agent| agent.totals.tasks + agent.totals.llm_calls > 0);
        let finding = |report: AgentReport| {
            let budget = guard.budget(&report.agent);
            AgentFinding {
                agent: report.agent,
                spent_usd: budget.spent_today_usd,
                limit_usd: budget.daily_limit_usd,
                remaining_usd: budget.remaining_today_usd(),
                utilization_percent: budget.utilization_percent(),
                avg_cost_per_task: budget.avg_cost_per_task(),
                status: budget.status,
            }
        };
        let (spent_usd, limit_usd) = (guard.org_spent_month(), guard.limits().org_monthly);
        let org = OrgFinding {
            spent_usd,
            limit_usd,
            remaining_usd: guard.org_remaining_month(),
            utilization_percent: spent_usd.percent_of(limit_usd),
        };
        let signals = signals(guard, &alerts, at);
        Self { agents: spenders.map(finding).collect(), org, alerts, unknown_models, signals }
    }
}

/// Returns the signals about costs at the end of the input: for each agent the one that throttled, blocked or unblocked it, or one
/// that ends an incident of an earlier check; and those of limits that were exceeded and of runaway spending.
fn signals(guard: &CostGuard, alerts: &[CostAlert], at: Timestamp) -> Vec<Signal> {
    let of_agents = guard.snapshot_at(at).budgets.into_iter().filter(|budget| !budget.scope.agent_name().is_empty());
    let unblocked = of_agents.map(|budget| {
        CostAlert::new(at, budget.scope, budget.spent_usd, budget.limit_usd, CostAlertKind::Unblocked).into_signal()
    });
    let mut by_key: BTreeMap<String, Signal> = unblocked.map(|signal| (signal.key.clone(), signal)).collect();
    by_key.extend(guard.incidents().into_iter().map(|signal| (signal.key.clone(), signal)));
    let one_off = alerts.iter().map(|alert| alert.clone().into_signal());
    let critical = one_off.filter(|signal| signal.phase == Phase::OneOff && signal.severity == Severity::Critical);
    by_key.into_values().chain(critical).collect()
}
