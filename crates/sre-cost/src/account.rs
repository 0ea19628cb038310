use std::sync::Arc;

use sre_core::{Clock, CostAlertKind, Timestamp, Usd};

use crate::Limits;
use crate::allowance::Allowance;
use crate::anomaly::{Baseline, Pace};
use crate::shared::Places;

/// An agent's books of a day.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) own: Allowance,
    pace: Pace,
    baseline: Baseline,
    /// What a charge need not look at: it is somewhere else, so that more accounts fit into a cache.
    pub(crate) rest: Box<Rest>,
}

#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) tasks: u64,
    pub(crate) team: Option<String>,
    /// What it may spend on models that hold each agent to limits of their own, once it has called them.
    on_models: Vec<(u32, Allowance)>,
    holds: Vec<Hold>,
}

/// An amount that is reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) number: u64,
    pub(crate) amount: i64,
    /// Which other budgets it is held from too.
    pub(crate) places: Places,
    pub(crate) expires: Timestamp,
}

impl Account {
    pub(crate) fn new(limits: &Limits, agent: &str, team: Option<&str>) -> Self {
        Self {
            own: Allowance::of_agent(limits, agent, team),
            rest: Box::new(Rest { team: team.map(str::to_owned), ..Rest::default() }),
            pace: Pace::default(),
            baseline: Baseline::default(),
        }
    }

    /// The agent turns out to be of another team: its limits are that team's from now on.
    pub(crate) fn move_to(&mut self, limits: &Limits, agent: &str, team: &str, clock: &Arc<dyn Clock>) {
        let mut own = Allowance::of_agent(limits, agent, Some(team));
        own.budget.reserved = self.own.budget.reserved;
        own.restore(self.own.budget.spent, limits, clock);
        self.own = own;
        self.rest.team = Some(team.to_owned());
    }

    /// What it may spend on a model, had from `make` at its first call.
    pub(crate) fn on_model_mut(&mut self, model: u32, make: impl FnOnce() -> Allowance) -> &mut Allowance {
        let on_models = &mut self.rest.on_models;
        let place = on_models.iter().position(|(known, _)| *known == model).unwrap_or_else(|| {
            on_models.push((model, make()));
            on_models.len() - 1
        });
        &mut on_models[place].1
    }

    /// What it may spend on a model, if that has been called and holds each agent to limits of its own.
    #[inline]
    pub(crate) fn on_model(&self, model: Option<u32>) -> Option<&Allowance> {
        let model = model?;
        self.rest.on_models.iter().find(|(known, _)| *known == model).map(|(_, allowance)| allowance)
    }

    /// What it may spend on each such model.
    pub(crate) fn on_models(&self) -> impl Iterator<Item = (u32, &Allowance)> {
        self.rest.on_models.iter().map(|(model, allowance)| (*model, allowance))
    }

    /// Begins a new day; the allowances that were slowed down or refused, and the model of each that is for one.
    pub(crate) fn begin(&mut self) -> Vec<(Option<u32>, &Allowance)> {
        self.rest.tasks = 0;
        let on_models = self.rest.on_models.iter_mut().map(|(model, allowance)| (Some(*model), allowance));
        let mut freed = Vec::new();
        for (model, allowance) in std::iter::once((None, &mut self.own)).chain(on_models) {
            if allowance.begin() {
                freed.push((model, &*allowance));
            }
        }
        freed
    }

    /// Nothing was spent in the day, and nothing is reserved.
    pub(crate) fn is_idle(&self) -> bool {
        self.own.budget.spent == 0 && self.rest.holds.is_empty()
    }

    pub(crate) fn find_hold(&self, number: u64) -> Option<Hold> {
        self.rest.holds.iter().find(|hold| hold.number == number).copied()
    }

    pub(crate) fn hold(&mut self, hold: Hold) {
        self.reserve(hold.places.on_model, hold.amount);
        self.rest.holds.push(hold);
    }

    /// Ends a reservation, in these books.
    pub(crate) fn let_go(&mut self, number: u64) -> Option<Hold> {
        let place = self.rest.holds.iter().position(|hold| hold.number == number)?;
        let hold = self.rest.holds.swap_remove(place);
        self.reserve(hold.places.on_model, -hold.amount);
        Some(hold)
    }

    fn reserve(&mut self, on_model: Option<u32>, amount: i64) {
        self.own.budget.reserved += amount;
        let of_model = self.rest.on_models.iter_mut().find(|(model, _)| Some(*model) == on_model);
        of_model.into_iter().for_each(|(_, allowance)| allowance.budget.reserved += amount);
    }

    /// The reservations that are too old.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.rest.holds.iter().filter(|hold| hold.expires <= now).map(|hold| hold.number).collect()
    }

    pub(crate) fn next_expiry(&self) -> Timestamp {
        self.rest.holds.iter().map(|hold| hold.expires).min().unwrap_or(Timestamp::from_nanos(i64::MAX))
    }

    /// Takes a cost in, and says how it is unlike the agent's others.
    #[inline]
    pub(crate) fn judge(&mut self, cost: Usd, now: Timestamp) -> Unusual {
        const MINUTE: i64 = 60_000_000_000;
        let anomaly = self.baseline.is_exceeded_by(cost).then(|| Box::new(self.baseline.alert(cost)));
        let is_runaway = self.pace.add(now.as_nanos() / MINUTE, cost, Usd::from_nanos(self.own.budget.limit));
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
