use std::sync::{Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use sre_core::{CostScope, lock};

use crate::account::Account;
use crate::budget::{Budget, Marked};
use crate::{Limits, Spend};

/// Budgets of several agents: of teams and models, those that have a limit of their own.
pub(crate) struct Shared {
    teams: FxHashMap<String, u32>,
    models: FxHashMap<String, u32>,
    pub(crate) budgets: Vec<(CostScope, Mutex<Budget>)>,
}

/// Which of them an amount counts for: the team's and the model's.
pub(crate) type Places = [Option<u32>; 2];

pub(crate) const NOWHERE: Places = [None; 2];

/// Budgets that are locked, by their places.
pub(crate) struct Locked<'a>(Vec<(u32, &'a CostScope, MutexGuard<'a, Budget>)>);

impl Locked<'_> {
    pub(crate) fn all(&self) -> impl Iterator<Item = (&CostScope, &Budget)> {
        self.0.iter().map(|(_, scope, budget)| (*scope, &**budget))
    }

    pub(crate) fn at_mut(&mut self, places: Places) -> impl Iterator<Item = (&CostScope, &mut Budget)> {
        let is_at = move |place: u32| places.contains(&Some(place));
        self.0.iter_mut().filter(move |(place, ..)| is_at(*place)).map(|(_, scope, budget)| (*scope, &mut **budget))
    }
}

impl Shared {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mut shared = Self { teams: FxHashMap::default(), models: FxHashMap::default(), budgets: Vec::new() };
        let teams = limits.teams.iter().map(|(name, scope)| (CostScope::Team(name.clone()), scope));
        let models = limits.models.iter().map(|(name, scope)| (CostScope::Model(name.clone()), scope));
        for (scope, of) in teams.chain(models) {
            let Some(daily) = of.daily else { continue };
            let thresholds = of.alert_thresholds.as_ref().unwrap_or(&limits.alert_thresholds);
            let marks = thresholds.iter().map(|threshold| (*threshold, Marked::Threshold(*threshold)));
            let place = shared.budgets.len() as u32;
            match &scope {
                CostScope::Team(name) => shared.teams.insert(name.clone(), place),
                CostScope::Model(name) => shared.models.insert(name.clone(), place),
                CostScope::Agent(_) | CostScope::Org => None,
            };
            shared.budgets.push((scope, Mutex::new(Budget::new(daily, marks))));
        }
        shared
    }

    #[inline]
    pub(crate) fn of(&self, account: Option<&Account>, spend: &Spend<'_>) -> Places {
        if self.budgets.is_empty() {
            return [None; 2];
        }
        let team = spend.team.or_else(|| account?.rest.team.as_deref());
        let find = |places: &FxHashMap<String, u32>, name: Option<&str>| places.get(name?).copied();
        [find(&self.teams, team), find(&self.models, spend.model)]
    }

    /// Locks what is at all these places, always in the same order. From the look at a budget to what is spent of it, nobody
    /// else may spend.
    pub(crate) fn lock(&self, places: [Places; 2]) -> Locked<'_> {
        let mut places: Vec<u32> = places.into_iter().flatten().flatten().collect();
        places.sort_unstable();
        places.dedup();
        let locked = |place: u32| {
            let (scope, budget) = &self.budgets[place as usize];
            (place, scope, lock(budget))
        };
        Locked(places.into_iter().map(locked).collect())
    }

    pub(crate) fn at(&self, places: Places) -> impl Iterator<Item = &(CostScope, Mutex<Budget>)> {
        places.into_iter().flatten().map(|place| &self.budgets[place as usize])
    }

    /// The names under which a ledger knows them.
    pub(crate) fn names(&self, places: Places) -> Vec<String> {
        self.at(places).map(|(scope, _)| scope.to_string()).collect()
    }

    pub(crate) fn places_of(&self, names: &[String]) -> Places {
        let place = |name: &String| self.budgets.iter().position(|(scope, _)| scope.to_string() == *name);
        let mut places = names.iter().filter_map(place).map(|place| place as u32);
        [places.next(), places.next()]
    }

    pub(crate) fn let_go(&self, places: Places, amount: i64) {
        self.at(places).for_each(|(_, budget)| lock(budget).reserved -= amount);
    }
}
