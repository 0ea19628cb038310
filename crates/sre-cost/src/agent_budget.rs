use std::num::NonZeroU32;
use std::sync::Arc;

use sre_core::{Clock, CostAlertKind, CostScope, CostStatus, RateLimiter, Timestamp, Usd};

use crate::budget::{Budget, Threshold, ThresholdAction};
use crate::denied::Denied;
use crate::limits::{Limits, MAX_AMOUNT, ScopeLimits};

/// An agent's daily budget, overall or on one model, with its throttling state.
#[derive(Debug)]
pub(crate) struct AgentBudgetState {
    pub(crate) budget: Budget,
    pub(crate) per_task: Usd,
    pub(crate) status: CostStatus,
    /// The status by what is spent alone; `status` is worse where something else throttles the agent.
    spending_status: CostStatus,
}

impl AgentBudgetState {
    /// Creates an agent's overall budget: its own settings take precedence over its team's, and those over the defaults.
    pub(crate) fn overall(limits: &Limits, agent: &str, team: Option<&str>) -> Self {
        let scopes = [limits.agents.get(agent), team.and_then(|team| limits.teams.get(team))];
        let scopes: Vec<&ScopeLimits> = scopes.into_iter().flatten().collect();
        Self::new(limits, &scopes, (limits.per_agent_daily, limits.per_task))
    }

    /// Creates an agent's budget on a model. A limit that the model does not set is not enforced here.
    pub(crate) fn on_model(limits: &Limits, model: &ScopeLimits) -> Self {
        Self::new(limits, &[model], (MAX_AMOUNT, MAX_AMOUNT))
    }

    fn new(limits: &Limits, scopes: &[&ScopeLimits], (daily, per_task): (Usd, Usd)) -> Self {
        let usd = |field: fn(&ScopeLimits) -> Option<Usd>| scopes.iter().find_map(|scope| field(scope));
        let share = |field: fn(&ScopeLimits) -> Option<f64>| scopes.iter().find_map(|scope| field(scope));
        let alert_thresholds = scopes.iter().find_map(|scope| scope.alert_thresholds.as_ref());
        let mut thresholds = ThresholdAction::alerts(alert_thresholds.unwrap_or(&limits.alert_thresholds));
        if limits.auto_throttle {
            let throttle_at = share(|scope| scope.throttle_at).unwrap_or(limits.throttle_at);
            let kill_at = share(|scope| scope.kill_at).unwrap_or(limits.kill_at);
            thresholds.extend([(throttle_at, ThresholdAction::Throttle), (kill_at, ThresholdAction::Kill)]);
        }
        Self {
            budget: Budget::new(usd(|scope| scope.per_agent_daily).unwrap_or(daily), thresholds),
            per_task: usd(|scope| scope.per_task).unwrap_or(per_task),
            status: CostStatus::Ok,
            spending_status: CostStatus::Ok,
        }
    }

    /// Returns whether there is a daily limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.budget.limit() < MAX_AMOUNT.nanos()
    }

    /// Applies spending from before a restart. Its alerts were sent then.
    pub(crate) fn restore(&mut self, spent: i64, limits: &Limits, clock: &Arc<dyn Clock>) {
        let crossed = self.budget.spend(spent, clock.now());
        self.apply(&crossed, limits, clock);
    }

    /// Starts a new day. Returns whether the agent was throttled or blocked until now.
    pub(crate) fn start_day(&mut self) -> bool {
        self.budget.details.limiter = None;
        self.spending_status = CostStatus::Ok;
        self.budget.start_period();
        std::mem::take(&mut self.status) != CostStatus::Ok
    }

    /// Throttles the agent, whatever is spent. Returns false if it was throttled or blocked already.
    pub(crate) fn throttle(&mut self, limits: &Limits, clock: &Arc<dyn Clock>) -> bool {
        if self.status >= CostStatus::Throttled {
            return false;
        }
        self.status = CostStatus::Throttled;
        self.budget.details.limiter = RateLimiter::new(limits.throttle_every, NonZeroU32::MIN, clock.clone());
        true
    }

    /// Ends throttling that does not come from spending. Returns whether this unblocks the agent.
    pub(crate) fn end_throttle(&mut self) -> bool {
        if self.status != CostStatus::Throttled || self.spending_status != CostStatus::Ok {
            return false;
        }
        self.status = CostStatus::Ok;
        self.budget.details.limiter = None;
        true
    }

    /// Adds to what was spent. Returns the alerts that this raises.
    #[inline]
    pub(crate) fn spend(
        &mut self,
        amount: i64,
        now: Timestamp,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
    ) -> Vec<CostAlertKind> {
        let crossed = self.budget.spend(amount, now);
        if crossed.is_empty() && !self.budget.is_exceeded() {
            return Vec::new();
        }
        let mut alerts = self.apply(&crossed, limits, clock);
        alerts.extend(self.budget.new_excess());
        alerts
    }

    /// Returns an error if the agent is blocked or throttled. Success consumes a throttled agent's rate-limit token.
    #[inline]
    pub(crate) fn try_start(&self, scope: impl FnOnce() -> CostScope) -> Result<(), Denied> {
        match self.status {
            CostStatus::Killed => Err(Denied::Killed { scope: scope() }),
            CostStatus::Throttled => self.take_token(scope),
            _ => Ok(()),
        }
    }

    #[cold]
    fn take_token(&self, scope: impl FnOnce() -> CostScope) -> Result<(), Denied> {
        let limiter = self.budget.details.limiter.as_ref();
        let taken = limiter.map_or(Ok(()), RateLimiter::check);
        taken.map_err(|retry_after| Denied::Throttled { scope: scope(), retry_after })
    }

    fn apply(&mut self, crossed: &[Threshold], limits: &Limits, clock: &Arc<dyn Clock>) -> Vec<CostAlertKind> {
        let mut alerts = Vec::new();
        for threshold in crossed {
            match threshold.action {
                ThresholdAction::Alert(threshold) => alerts.push(CostAlertKind::Threshold { threshold }),
                ThresholdAction::Throttle => {
                    self.spending_status = self.spending_status.max(CostStatus::Throttled);
                    if self.throttle(limits, clock) {
                        alerts.push(CostAlertKind::Throttled { slo: None });
                    }
                }
                ThresholdAction::Kill => {
                    (self.status, self.spending_status) = (CostStatus::Killed, CostStatus::Killed);
                    alerts.push(CostAlertKind::Killed);
                }
            }
        }
        alerts
    }
}
