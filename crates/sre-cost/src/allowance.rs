use std::num::NonZeroU32;
use std::sync::Arc;

use sre_core::{Clock, CostAlertKind, CostScope, CostStatus, RateLimiter, Timestamp, Usd};

use crate::budget::{Budget, Mark, Marked};
use crate::limits::MOST;
use crate::{Limits, Refused, ScopeLimits};

/// What an agent may spend a day, all in all or on one model, and where that has brought it.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) budget: Budget,
    pub(crate) per_task: Usd,
    pub(crate) status: CostStatus,
    /// Seldom there, so kept out of the way.
    limiter: Option<Box<RateLimiter>>,
}

impl Allowance {
    /// By what the agent's own settings say, else its team's, else everybody's.
    pub(crate) fn of_agent(limits: &Limits, agent: &str, team: Option<&str>) -> Self {
        let scopes = [limits.agents.get(agent), team.and_then(|team| limits.teams.get(team))];
        let scopes: Vec<&ScopeLimits> = scopes.into_iter().flatten().collect();
        Self::new(limits, &scopes, (limits.per_agent_daily, limits.per_task))
    }

    /// On a model that has settings of its own. What these leave open, the agent's allowance for everything decides.
    pub(crate) fn on_model(limits: &Limits, scope: &ScopeLimits) -> Self {
        Self::new(limits, &[scope], (MOST, MOST))
    }

    fn new(limits: &Limits, scopes: &[&ScopeLimits], (daily, per_task): (Usd, Usd)) -> Self {
        let usd = |of: fn(&ScopeLimits) -> Option<Usd>| scopes.iter().find_map(|scope| of(scope));
        let share = |of: fn(&ScopeLimits) -> Option<f64>| scopes.iter().find_map(|scope| of(scope));
        let thresholds = scopes.iter().find_map(|scope| scope.alert_thresholds.as_ref());
        let mut marks = Marked::thresholds(thresholds.unwrap_or(&limits.alert_thresholds));
        if limits.auto_throttle {
            marks.push((share(|scope| scope.throttle_at).unwrap_or(limits.throttle_at), Marked::Throttle));
            marks.push((share(|scope| scope.kill_at).unwrap_or(limits.kill_at), Marked::Kill));
        }
        Self {
            budget: Budget::new(usd(|scope| scope.per_agent_daily).unwrap_or(daily), marks),
            per_task: usd(|scope| scope.per_task).unwrap_or(per_task),
            status: CostStatus::Ok,
            limiter: None,
        }
    }

    /// Whether there is a limit a day.
    pub(crate) fn is_limited(&self) -> bool {
        self.budget.limit < MOST.nanos()
    }

    /// What was spent before; what that has passed was told then.
    pub(crate) fn restore(&mut self, spent: i64, limits: &Limits, clock: &Arc<dyn Clock>) {
        let passed = self.budget.spend(spent, clock.now());
        self.obey(&passed, limits, clock);
    }

    /// Begins a new day; says whether that frees the agent.
    pub(crate) fn begin(&mut self) -> bool {
        self.limiter = None;
        self.budget.begin();
        std::mem::take(&mut self.status) != CostStatus::Ok
    }

    /// Spends, and says what is to be told of it.
    #[inline]
    pub(crate) fn spend(
        &mut self,
        amount: i64,
        now: Timestamp,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
    ) -> Vec<CostAlertKind> {
        let passed = self.budget.spend(amount, now);
        if passed.is_empty() && !self.budget.is_exceeded() {
            return Vec::new();
        }
        let mut told = self.obey(&passed, limits, clock);
        told.extend(self.budget.excess());
        told
    }

    /// Whether the agent may begin something at all. Where it is slowed down, to be allowed takes its turn.
    #[inline]
    pub(crate) fn may_begin(&self, scope: impl FnOnce() -> CostScope) -> Result<(), Refused> {
        match (self.status, &self.limiter) {
            (CostStatus::Killed, _) => Err(Refused::Killed { scope: scope() }),
            (CostStatus::Throttled, Some(limiter)) => {
                limiter.check().map_err(|retry_after| Refused::Throttled { scope: scope(), retry_after })
            }
            _ => Ok(()),
        }
    }

    /// Does what the marks say that were passed.
    fn obey(&mut self, passed: &[Mark], limits: &Limits, clock: &Arc<dyn Clock>) -> Vec<CostAlertKind> {
        let mut told = Vec::new();
        for mark in passed {
            told.push(match mark.what {
                Marked::Threshold(threshold) => CostAlertKind::Threshold { threshold },
                Marked::Throttle if self.status < CostStatus::Throttled => {
                    self.status = CostStatus::Throttled;
                    let limiter = RateLimiter::new(limits.throttle_every, NonZeroU32::MIN, clock.clone());
                    self.limiter = limiter.map(Box::new);
                    CostAlertKind::Throttled
                }
                Marked::Kill => {
                    self.status = CostStatus::Killed;
                    CostAlertKind::Killed
                }
                Marked::Throttle => continue,
            });
        }
        told
    }
}
