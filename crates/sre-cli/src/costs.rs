use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use agent_sre::cost::{CostGuard, CostObserver, Limits, PriceBook, Pricing};
use agent_sre::{
    AgentEvent, CostAlert, CostStatus, Event, ManualClock, Observer, Signal, SignalKind, Timestamp, Usd, lock,
};

/// What the run cost by a price book, and what limits would have said to it.
pub(crate) struct Costs {
    pub(crate) pricing: Pricing,
    has_prices: bool,
    guard: Option<Watched>,
}

/// A guard whose days and months are those of the events.
struct Watched {
    guard: Arc<CostGuard>,
    observer: CostObserver,
    clock: Arc<ManualClock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    latest: Timestamp,
    agents: BTreeSet<String>,
    alerts: Vec<CostAlert>,
}

/// What was found.
#[derive(Clone, serde::Serialize)]
pub(crate) struct CostFindings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prices: Option<PriceFindings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) costs: Option<LimitFindings>,
}

/// What came of the prices.
#[derive(Clone, serde::Serialize)]
pub(crate) struct PriceFindings {
    /// Calls that got their cost from the file.
    pub(crate) priced: u64,
    /// Calls without a cost of models without a price, by model.
    pub(crate) unknown_calls: BTreeMap<String, u64>,
    /// Calls whose own cost is what the file says.
    pub(crate) matched: u64,
    /// Calls whose own cost differs from the price by more than 1 %.
    pub(crate) mismatched: u64,
    /// What those differ by, together.
    pub(crate) difference_usd: Usd,
}

/// How the budgets stand at the input's end.
#[derive(Clone, serde::Serialize)]
pub(crate) struct LimitFindings {
    pub(crate) agents: Vec<AgentFinding>,
    pub(crate) org: OrgFinding,
    /// The first thousand.
    pub(crate) alerts: Vec<CostAlert>,
    pub(crate) unknown_models: Vec<String>,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct AgentFinding {
    pub(crate) agent: String,
    /// On the input's last day.
    pub(crate) spent_usd: Usd,
    pub(crate) limit_usd: Usd,
    pub(crate) status: CostStatus,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct OrgFinding {
    /// In the input's last month.
    pub(crate) spent_usd: Usd,
    pub(crate) limit_usd: Usd,
}

const MOST_ALERTS: usize = 1_000;

impl Costs {
    pub(crate) fn load(prices: Option<&Path>, limits: Option<&Path>) -> anyhow::Result<Option<Arc<Self>>> {
        if prices.is_none() && limits.is_none() {
            return Ok(None);
        }
        let book = prices.map(PriceBook::load).transpose()?.unwrap_or_default();
        let guard = limits.map(Limits::load).transpose()?.map(Watched::new).transpose()?;
        Ok(Some(Arc::new(Self { pricing: Pricing::new(book), has_prices: prices.is_some(), guard })))
    }

    pub(crate) fn findings(&self) -> CostFindings {
        let report = self.pricing.report();
        let unknown_models = report.unknown_models.keys().cloned().collect();
        CostFindings {
            prices: self.has_prices.then_some(PriceFindings {
                priced: report.priced,
                unknown_calls: report.unknown_models,
                matched: report.matched,
                mismatched: report.mismatched,
                difference_usd: report.difference,
            }),
            costs: self.guard.as_ref().map(|guard| guard.findings(unknown_models)),
        }
    }
}

impl Observer for Costs {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        if let Some(guard) = &self.guard {
            guard.observe(event);
        }
    }
}

impl Watched {
    fn new(limits: Limits) -> anyhow::Result<Self> {
        let clock = Arc::new(ManualClock::default());
        let guard = Arc::new(CostGuard::with_limits(limits)?.with_clock(clock.clone()));
        Ok(Self { observer: CostObserver::new(guard.clone()), guard, clock, seen: Mutex::default() })
    }

    fn observe(&self, event: &AgentEvent) {
        let seen = &mut *lock(&self.seen);
        if event.time > seen.latest {
            seen.latest = event.time;
            self.clock.set(event.time);
        }
        if matches!(event.event, Event::LlmCall(_) | Event::TaskFinished(_)) && !seen.agents.contains(&event.agent) {
            seen.agents.insert(event.agent.clone());
        }
        self.observer.observe(event, &mut |signal| {
            if let SignalKind::Cost(alert) = signal.kind
                && seen.alerts.len() < MOST_ALERTS
            {
                seen.alerts.push(alert);
            }
        });
    }

    fn findings(&self, unknown_models: Vec<String>) -> LimitFindings {
        let seen = lock(&self.seen);
        let agent = |name: &String| {
            let budget = self.guard.get_budget(name);
            AgentFinding {
                agent: name.clone(),
                spent_usd: budget.spent_today_usd,
                limit_usd: budget.daily_limit_usd,
                status: budget.status,
            }
        };
        LimitFindings {
            agents: seen.agents.iter().map(agent).collect(),
            org: OrgFinding { spent_usd: self.guard.org_spent_month(), limit_usd: self.guard.limits().org_monthly },
            alerts: seen.alerts.clone(),
            unknown_models,
        }
    }
}
