use std::sync::Arc;

use sre_core::{Clock, CostAlertKind, CostStatus, RateLimiter, Timestamp, Usd};

use crate::anomaly::{Baseline, Pace};
use crate::budget::{Budget, Mark, Marked};
use crate::shared::Places;
use crate::{Limits, Refused};

/// An agent's books of a day.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) budget: Budget,
    pub(crate) per_task: Usd,
    pub(crate) status: CostStatus,
    pace: Pace,
    baseline: Baseline,
    /// What a charge need not look at: it is somewhere else, so that more accounts fit into a cache.
    pub(crate) rest: Box<Rest>,
}

#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) tasks: u64,
    pub(crate) team: Option<String>,
    limiter: Option<RateLimiter>,
    holds: Vec<Hold>,
}

/// An amount that is reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) number: u64,
    pub(crate) amount: i64,
    /// Which shared budgets it is held from too.
    pub(crate) places: Places,
    pub(crate) expires: Timestamp,
}

impl Account {
    pub(crate) fn new(limits: &Limits, agent: &str, team: Option<&str>) -> Self {
        let scopes = [limits.agents.get(agent), team.and_then(|team| limits.teams.get(team))];
        let first = |of: fn(&crate::ScopeLimits) -> Option<Usd>| scopes.iter().flatten().find_map(|scope| of(scope));
        let share = |of: fn(&crate::ScopeLimits) -> Option<f64>| scopes.iter().flatten().find_map(|scope| of(scope));
        let thresholds = scopes.iter().flatten().find_map(|scope| scope.alert_thresholds.as_ref());
        let mut marks: Vec<(f64, Marked)> = thresholds
            .unwrap_or(&limits.alert_thresholds)
            .iter()
            .map(|threshold| (*threshold, Marked::Threshold(*threshold)))
            .collect();
        if limits.auto_throttle {
            marks.push((share(|scope| scope.throttle_at).unwrap_or(limits.throttle_at), Marked::Throttle));
            marks.push((share(|scope| scope.kill_at).unwrap_or(limits.kill_at), Marked::Kill));
        }
        Self {
            budget: Budget::new(first(|scope| scope.per_agent_daily).unwrap_or(limits.per_agent_daily), marks),
            per_task: first(|scope| scope.per_task).unwrap_or(limits.per_task),
            status: CostStatus::Ok,
            rest: Box::new(Rest { team: team.map(str::to_owned), ..Rest::default() }),
            pace: Pace::default(),
            baseline: Baseline::default(),
        }
    }

    /// The agent turns out to be of another team: its limits are that team's from now on.
    pub(crate) fn move_to(&mut self, limits: &Limits, agent: &str, team: &str, clock: &Arc<dyn Clock>) {
        let mut moved = Self::new(limits, agent, Some(team));
        moved.budget.reserved = self.budget.reserved;
        moved.rest.holds = std::mem::take(&mut self.rest.holds);
        moved.pace = std::mem::take(&mut self.pace);
        moved.baseline = std::mem::take(&mut self.baseline);
        moved.restore(Usd::from_nanos(self.budget.spent), self.rest.tasks, limits, clock);
        *self = moved;
    }

    /// What was spent before; what that has passed was told then.
    pub(crate) fn restore(&mut self, spent: Usd, tasks: u64, limits: &Limits, clock: &Arc<dyn Clock>) {
        let passed = self.budget.spend(spent.nanos(), clock.now());
        self.rest.tasks = tasks;
        self.obey(&passed, limits, clock);
    }

    /// Begins a new day; says whether that frees the agent.
    pub(crate) fn begin(&mut self) -> bool {
        self.rest.tasks = 0;
        self.rest.limiter = None;
        self.budget.begin();
        std::mem::take(&mut self.status) != CostStatus::Ok
    }

    /// Nothing was spent in the day, and nothing is reserved.
    pub(crate) fn is_idle(&self) -> bool {
        self.budget.spent == 0 && self.rest.holds.is_empty()
    }

    pub(crate) fn find_hold(&self, number: u64) -> Option<Hold> {
        self.rest.holds.iter().find(|hold| hold.number == number).copied()
    }

    pub(crate) fn hold(&mut self, hold: Hold) {
        self.budget.reserved += hold.amount;
        self.rest.holds.push(hold);
    }

    /// Ends a reservation, in these books.
    pub(crate) fn let_go(&mut self, number: u64) -> Option<Hold> {
        let place = self.rest.holds.iter().position(|hold| hold.number == number)?;
        let hold = self.rest.holds.swap_remove(place);
        self.budget.reserved -= hold.amount;
        Some(hold)
    }

    /// The reservations that are too old.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.rest.holds.iter().filter(|hold| hold.expires <= now).map(|hold| hold.number).collect()
    }

    pub(crate) fn next_expiry(&self) -> Timestamp {
        self.rest.holds.iter().map(|hold| hold.expires).min().unwrap_or(Timestamp::from_nanos(i64::MAX))
    }

    /// Whether the agent may begin something at all.
    #[inline]
    pub(crate) fn may_begin(&self, agent: &str) -> Result<(), Refused> {
        match self.status {
            CostStatus::Ok => Ok(()),
            CostStatus::Killed => Err(Refused::Killed { agent: agent.to_owned() }),
            CostStatus::Throttled => self
                .rest
                .limiter
                .as_ref()
                .map_or(Ok(()), RateLimiter::check)
                .map_err(|retry_after| Refused::Throttled { agent: agent.to_owned(), retry_after }),
        }
    }

    /// Does what the marks say that were passed.
    pub(crate) fn obey(&mut self, passed: &[Mark], limits: &Limits, clock: &Arc<dyn Clock>) -> Vec<CostAlertKind> {
        let mut told = Vec::new();
        for mark in passed {
            told.push(match mark.what {
                Marked::Threshold(threshold) => CostAlertKind::Threshold { threshold },
                Marked::Throttle if self.status < CostStatus::Throttled => {
                    self.status = CostStatus::Throttled;
                    let limiter = RateLimiter::new(limits.throttle_every, std::num::NonZeroU32::MIN, clock.clone());
                    self.rest.limiter = limiter;
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

    /// Takes a cost in, and says whether it is unlike the agent's others.
    #[inline]
    pub(crate) fn judge(&mut self, cost: Usd, now: Timestamp) -> Unusual {
        const MINUTE: i64 = 60_000_000_000;
        let anomaly = self.baseline.is_exceeded_by(cost).then(|| Box::new(self.baseline.alert(cost)));
        let is_runaway = self.pace.add(now.as_nanos() / MINUTE, cost, Usd::from_nanos(self.budget.limit));
        self.baseline.add(cost);
        Unusual { anomaly, is_runaway }
    }

    /// What to tell of it.
    pub(crate) fn tell_unusual(&self, unusual: Unusual) -> impl Iterator<Item = CostAlertKind> {
        let anomaly = unusual.anomaly.map(|anomaly| *anomaly);
        anomaly.into_iter().chain(unusual.is_runaway.then(|| self.pace.alert()))
    }
}

/// How a cost is unlike others.
#[derive(Debug, Default)]
pub(crate) struct Unusual {
    /// Seldom there, so kept out of the way.
    anomaly: Option<Box<CostAlertKind>>,
    is_runaway: bool,
}

impl Unusual {
    pub(crate) fn is_any(&self) -> bool {
        self.anomaly.is_some() || self.is_runaway
    }
}
