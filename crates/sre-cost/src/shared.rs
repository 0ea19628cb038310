use std::sync::{Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use sre_core::{CostScope, lock};

use crate::account::Account;
use crate::allowance::Allowance;
use crate::budget::{Budget, Marked};
use crate::{Limits, ScopeLimits, Spend};

/// What teams and models with settings of their own have in common for all agents: budgets that several agents spend from, and
/// the limits to which a model holds each of them.
pub(crate) struct Shared {
    teams: FxHashMap<String, u32>,
    models: FxHashMap<String, u32>,
    pub(crate) budgets: Vec<(CostScope, Mutex<Budget>)>,
    each_on: FxHashMap<String, u32>,
    each: Vec<(String, ScopeLimits)>,
}

/// Which budgets an amount counts for besides the agent's and the organisation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The team's and the model's.
    shared: [Option<u32>; 2],
    /// What the agent may spend on the model.
    pub(crate) on_model: Option<u32>,
}

/// Budgets that are locked, by their places.
pub(crate) struct Locked<'a>(Vec<(u32, &'a CostScope, MutexGuard<'a, Budget>)>);

impl Locked<'_> {
    pub(crate) fn all(&self) -> impl Iterator<Item = (&CostScope, &Budget)> {
        self.0.iter().map(|(_, scope, budget)| (*scope, &**budget))
    }

    pub(crate) fn at_mut(&mut self, places: Places) -> impl Iterator<Item = (&CostScope, &mut Budget)> {
        let is_at = move |place: u32| places.shared.contains(&Some(place));
        self.0.iter_mut().filter(move |(place, ..)| is_at(*place)).map(|(_, scope, budget)| (*scope, &mut **budget))
    }
}

impl Shared {
    pub(crate) fn new(limits: &Limits) -> Self {
        let has_each = |(_, of): &(&String, &ScopeLimits)| of.per_task.is_some() || of.per_agent_daily.is_some();
        let each: Vec<_> = limits.models.iter().filter(has_each).map(|(name, of)| (name.clone(), of.clone())).collect();
        let mut shared = Self {
            teams: FxHashMap::default(),
            models: FxHashMap::default(),
            budgets: Vec::new(),
            each_on: (0..).zip(&each).map(|(place, (name, _))| (name.clone(), place)).collect(),
            each,
        };
        let teams = limits.teams.iter().map(|(name, of)| (name, of, CostScope::Team as fn(String) -> _));
        let models = limits.models.iter().map(|(name, of)| (name, of, CostScope::Model as fn(String) -> _));
        for (is_model, (name, of, scope)) in teams.map(|team| (false, team)).chain(models.map(|model| (true, model))) {
            let Some(daily) = of.daily else { continue };
            let thresholds = of.alert_thresholds.as_ref().unwrap_or(&limits.alert_thresholds);
            let places = if is_model { &mut shared.models } else { &mut shared.teams };
            places.insert(name.clone(), shared.budgets.len() as u32);
            shared.budgets.push((scope(name.clone()), Mutex::new(Budget::new(daily, Marked::thresholds(thresholds)))));
        }
        shared
    }

    #[inline]
    pub(crate) fn of(&self, account: Option<&Account>, spend: &Spend<'_>) -> Places {
        if self.budgets.is_empty() && self.each.is_empty() {
            return Places::default();
        }
        let team = spend.team.or_else(|| account?.rest.team.as_deref());
        let find = |places: &FxHashMap<String, u32>, name: Option<&str>| places.get(name?).copied();
        Places {
            shared: [find(&self.teams, team), find(&self.models, spend.model)],
            on_model: self.each_on(spend.model),
        }
    }

    /// The model's place, if it holds each agent to limits of its own.
    #[inline]
    pub(crate) fn each_on(&self, model: Option<&str>) -> Option<u32> {
        if self.each.is_empty() {
            return None;
        }
        self.each_on.get(model?).copied()
    }

    /// What an agent may spend on such a model.
    pub(crate) fn allowance(&self, limits: &Limits, on_model: u32) -> Allowance {
        Allowance::on_model(limits, &self.each[on_model as usize].1)
    }

    /// Whose allowance it is.
    pub(crate) fn scope(&self, agent: &str, on_model: Option<u32>) -> CostScope {
        let agent = agent.to_owned();
        match on_model {
            Some(place) => CostScope::AgentOnModel { agent, model: self.model_at(place).to_owned() },
            None => CostScope::Agent(agent),
        }
    }

    /// Locks what is at all these places, always in the same order. From the look at a budget to what is spent of it, nobody
    /// else may spend.
    pub(crate) fn lock(&self, places: [Places; 2]) -> Locked<'_> {
        let mut places: Vec<u32> = places.into_iter().flat_map(|places| places.shared).flatten().collect();
        places.sort_unstable();
        places.dedup();
        let locked = |place: u32| {
            let (scope, budget) = &self.budgets[place as usize];
            (place, scope, lock(budget))
        };
        Locked(places.into_iter().map(locked).collect())
    }

    pub(crate) fn at(&self, places: Places) -> impl Iterator<Item = &(CostScope, Mutex<Budget>)> {
        places.shared.into_iter().flatten().map(|place| &self.budgets[place as usize])
    }

    /// The names under which a ledger knows the budgets that several agents spend from.
    pub(crate) fn names(&self, places: Places) -> Vec<String> {
        self.at(places).map(|(scope, _)| scope.to_string()).collect()
    }

    /// The model by whose name a ledger knows what the agent may spend on it.
    pub(crate) fn model(&self, places: Places) -> Option<String> {
        places.on_model.map(|place| self.model_at(place).to_owned())
    }

    pub(crate) fn model_at(&self, place: u32) -> &str {
        &self.each[place as usize].0
    }

    pub(crate) fn places_of(&self, names: &[String], model: Option<&str>) -> Places {
        let place = |name: &String| self.budgets.iter().position(|(scope, _)| scope.to_string() == *name);
        let mut places = names.iter().filter_map(place).map(|place| place as u32);
        Places { shared: [places.next(), places.next()], on_model: self.each_on(model) }
    }

    pub(crate) fn let_go(&self, places: Places, amount: i64) {
        self.at(places).for_each(|(_, budget)| lock(budget).reserved -= amount);
    }
}
