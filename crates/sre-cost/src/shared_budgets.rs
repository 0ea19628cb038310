use std::sync::{Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use sre_core::CostScope;
use sre_core::private::lock;

use crate::agent_budget::AgentBudgetState;
use crate::budget::{Budget, ThresholdAction};
use crate::limits::{Limits, ScopeLimits};

/// The daily budgets of teams and models, which several agents spend from, and the models that limit each agent.
///
/// Both are numbered when the guard is created, so that a charge carries ids instead of names.
pub(crate) struct SharedBudgets {
    team_ids: FxHashMap<String, u32>,
    model_ids: FxHashMap<String, u32>,
    pub(crate) budgets: Vec<(CostScope, Mutex<Budget>)>,
    per_agent_ids: FxHashMap<String, u32>,
    per_agent: Vec<(String, ScopeLimits)>,
}

/// The budgets that an amount counts toward, besides the agent's and the organisation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BudgetIds {
    /// The team's and the model's shared budgets.
    shared: [Option<u32>; 2],
    /// The model, if it limits each agent.
    pub(crate) on_model: Option<u32>,
}

/// Shared budgets, locked.
pub(crate) struct LockedBudgets<'a>(Vec<(u32, &'a CostScope, MutexGuard<'a, Budget>)>);

impl LockedBudgets<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CostScope, &Budget)> {
        self.0.iter().map(|(_, scope, budget)| (*scope, &**budget))
    }

    pub(crate) fn iter_mut(&mut self, ids: BudgetIds) -> impl Iterator<Item = (&CostScope, &mut Budget)> {
        let is_selected = move |id: u32| ids.shared.contains(&Some(id));
        self.0.iter_mut().filter(move |(id, ..)| is_selected(*id)).map(|(_, scope, budget)| (*scope, &mut **budget))
    }
}

impl SharedBudgets {
    pub(crate) fn new(limits: &Limits) -> Self {
        let limits_each = |(_, of): &(&String, &ScopeLimits)| of.per_task.is_some() || of.per_agent_daily.is_some();
        let per_agent: Vec<_> =
            limits.models.iter().filter(limits_each).map(|(name, of)| (name.clone(), of.clone())).collect();
        let mut shared = Self {
            team_ids: FxHashMap::default(),
            model_ids: FxHashMap::default(),
            budgets: Vec::new(),
            per_agent_ids: (0..).zip(&per_agent).map(|(id, (name, _))| (name.clone(), id)).collect(),
            per_agent,
        };
        let teams = limits.teams.iter().map(|(name, of)| (name, of, CostScope::Team as fn(String) -> _));
        let models = limits.models.iter().map(|(name, of)| (name, of, CostScope::Model as fn(String) -> _));
        for (is_model, (name, of, scope)) in teams.map(|team| (false, team)).chain(models.map(|model| (true, model))) {
            let Some(daily) = of.daily else { continue };
            let thresholds = of.alert_thresholds.as_ref().unwrap_or(&limits.alert_thresholds);
            let ids = if is_model { &mut shared.model_ids } else { &mut shared.team_ids };
            ids.insert(name.clone(), shared.budgets.len() as u32);
            let budget = Budget::new(daily, ThresholdAction::alerts(thresholds));
            shared.budgets.push((scope(name.clone()), Mutex::new(budget)));
        }
        shared
    }

    #[inline]
    pub(crate) fn ids<'a>(&self, team: impl FnOnce() -> Option<&'a str>, model: Option<&str>) -> BudgetIds {
        if self.budgets.is_empty() && self.per_agent.is_empty() {
            return BudgetIds::default();
        }
        let find = |ids: &FxHashMap<String, u32>, name: Option<&str>| ids.get(name?).copied();
        BudgetIds {
            shared: [find(&self.team_ids, team()), find(&self.model_ids, model)],
            on_model: self.per_agent_id(model),
        }
    }

    /// Returns the model's id, if it limits each agent.
    #[inline]
    pub(crate) fn per_agent_id(&self, model: Option<&str>) -> Option<u32> {
        if self.per_agent.is_empty() {
            return None;
        }
        self.per_agent_ids.get(model?).copied()
    }

    /// Creates an agent's budget on a model that limits each agent.
    pub(crate) fn new_agent_budget(&self, limits: &Limits, model: u32) -> AgentBudgetState {
        AgentBudgetState::on_model(limits, &self.per_agent[model as usize].1)
    }

    /// Returns the scope of an agent's budget, overall or on a model.
    pub(crate) fn agent_scope(&self, agent: &str, model: Option<u32>) -> CostScope {
        let agent = agent.to_owned();
        match model {
            Some(id) => CostScope::AgentOnModel { agent, model: self.model_name(id).to_owned() },
            None => CostScope::Agent(agent),
        }
    }

    /// Locks the shared budgets of `ids`, always in the same order, so that nobody else spends from them between a check and
    /// the charge.
    #[inline]
    pub(crate) fn lock(&self, ids: [BudgetIds; 2]) -> LockedBudgets<'_> {
        // Most charges count toward none.
        if self.budgets.is_empty() { LockedBudgets(Vec::new()) } else { self.lock_some(ids) }
    }

    fn lock_some(&self, ids: [BudgetIds; 2]) -> LockedBudgets<'_> {
        let mut ids: Vec<u32> = ids.into_iter().flat_map(|ids| ids.shared).flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        let locked = |id: u32| {
            let (scope, budget) = &self.budgets[id as usize];
            (id, scope, lock(budget))
        };
        LockedBudgets(ids.into_iter().map(locked).collect())
    }

    pub(crate) fn get(&self, ids: BudgetIds) -> impl Iterator<Item = &(CostScope, Mutex<Budget>)> {
        ids.shared.into_iter().flatten().map(|id| &self.budgets[id as usize])
    }

    /// Returns the names of the shared budgets and of the model, as a ledger store keeps them.
    pub(crate) fn names(&self, ids: BudgetIds) -> (Vec<String>, Option<String>) {
        let shared = self.get(ids).map(|(scope, _)| scope.to_string()).collect();
        (shared, ids.on_model.map(|id| self.model_name(id).to_owned()))
    }

    pub(crate) fn model_name(&self, id: u32) -> &str {
        &self.per_agent[id as usize].0
    }

    /// Returns the ids of what a ledger store keeps by name. Budgets that are no longer configured are ignored.
    pub(crate) fn ids_of_names(&self, names: &[String], model: Option<&str>) -> BudgetIds {
        let id = |name: &String| self.budgets.iter().position(|(scope, _)| scope.to_string() == *name);
        let mut ids = names.iter().filter_map(id).map(|id| id as u32);
        BudgetIds { shared: [ids.next(), ids.next()], on_model: self.per_agent_id(model) }
    }

    /// Adds to what is reserved; a negative amount releases.
    pub(crate) fn add_reserved(&self, ids: BudgetIds, amount: i64) {
        self.get(ids).for_each(|(_, budget)| lock(budget).add_reserved(amount));
    }
}
