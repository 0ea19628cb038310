use std::ops::Deref;
use std::sync::{Arc, Mutex};

use smol_str::SmolStr;
use sre_core::{Clock, CostAlertKind, Timestamp, Usd};

use crate::agent_budget::AgentBudgetState;
use crate::anomaly::{AnomalyDetector, UsualCosts};
use crate::limits::Limits;
use crate::shared_budgets::BudgetIds;

/// An agent's spending of the day, its open reservations, and its usual costs.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) overall: AgentBudgetState,
    anomalies: AnomalyDetector,
    /// What most charges do not read. Boxed, so that a charge touches fewer cache lines.
    pub(crate) details: Box<Details>,
}

/// An agent's name and account in two cache lines: with many agents the time of a charge is that of the lines that it reads
/// from memory.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct AccountCell {
    name: SmolStr,
    account: Mutex<Account>,
}

const _: () = assert!(size_of::<AccountCell>() == 128);

impl AccountCell {
    pub(crate) fn new(name: &str, account: Account) -> Self {
        Self { name: name.into(), account: Mutex::new(account) }
    }

    #[inline]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Deref for AccountCell {
    type Target = Mutex<Account>;

    fn deref(&self) -> &Mutex<Account> {
        &self.account
    }
}

#[derive(Debug, Default)]
pub(crate) struct Details {
    usual: UsualCosts,
    pub(crate) tasks_today: u64,
    pub(crate) team: Option<String>,
    /// The incident keys of the objectives that throttle the agent.
    pub(crate) throttled_by: Vec<String>,
    /// The agent's budgets on models with per-agent limits, by model id, from the first call of each.
    on_models: Vec<(u32, AgentBudgetState)>,
    reservations: Vec<OpenReservation>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenReservation {
    pub(crate) id: u64,
    pub(crate) amount: i64,
    /// The budgets it is reserved from, besides the agent's and the organisation's.
    pub(crate) budgets: BudgetIds,
    pub(crate) expires: Timestamp,
}

impl Account {
    pub(crate) fn new(limits: &Limits, agent: &str, team: Option<&str>) -> Self {
        Self {
            overall: AgentBudgetState::overall(limits, agent, team),
            details: Box::new(Details { team: team.map(str::to_owned), ..Details::default() }),
            anomalies: AnomalyDetector::default(),
        }
    }

    /// Moves the agent to another team, whose limits apply from now on.
    pub(crate) fn set_team(&mut self, limits: &Limits, agent: &str, team: &str, clock: &Arc<dyn Clock>) {
        let mut overall = AgentBudgetState::overall(limits, agent, Some(team));
        overall.budget.add_reserved(self.overall.budget.reserved());
        overall.restore(self.overall.budget.spent, limits, clock);
        if !self.details.throttled_by.is_empty() {
            overall.throttle(limits, clock);
        }
        self.overall = overall;
        self.details.team = Some(team.to_owned());
    }

    /// Throttles the agent because of an objective. Returns false if it was throttled or blocked already.
    pub(crate) fn throttle(&mut self, key: &str, limits: &Limits, clock: &Arc<dyn Clock>) -> bool {
        if !self.details.throttled_by.iter().any(|known| known == key) {
            self.details.throttled_by.push(key.to_owned());
        }
        self.overall.throttle(limits, clock)
    }

    /// Ends what an objective throttles. Returns whether this unblocks the agent.
    pub(crate) fn end_throttle(&mut self, key: &str) -> bool {
        let throttled_by = &mut self.details.throttled_by;
        let before = throttled_by.len();
        throttled_by.retain(|known| known != key);
        throttled_by.len() < before && throttled_by.is_empty() && self.overall.end_throttle()
    }

    /// Returns the agent's budget on a model, created by `make` on first use.
    pub(crate) fn on_model_mut(
        &mut self,
        model: u32,
        make: impl FnOnce() -> AgentBudgetState,
    ) -> &mut AgentBudgetState {
        let on_models = &mut self.details.on_models;
        let index = on_models.iter().position(|(known, _)| *known == model).unwrap_or_else(|| {
            on_models.push((model, make()));
            on_models.len() - 1
        });
        &mut on_models[index].1
    }

    /// Returns the agent's budget on a model, if the model has per-agent limits and the agent has called it.
    #[inline]
    pub(crate) fn on_model(&self, model: Option<u32>) -> Option<&AgentBudgetState> {
        let model = model?;
        self.details.on_models.iter().find(|(known, _)| *known == model).map(|(_, state)| state)
    }

    pub(crate) fn on_models(&self) -> impl Iterator<Item = (u32, &AgentBudgetState)> {
        self.details.on_models.iter().map(|(model, state)| (*model, state))
    }

    /// Starts a new day. Returns the budgets that were throttled or blocked until now, each with its model, if any.
    pub(crate) fn start_day(&mut self) -> Vec<(Option<u32>, &AgentBudgetState)> {
        self.details.tasks_today = 0;
        self.details.throttled_by.clear();
        let on_models = self.details.on_models.iter_mut().map(|(model, state)| (Some(*model), state));
        let mut unblocked = Vec::new();
        for (model, state) in std::iter::once((None, &mut self.overall)).chain(on_models) {
            if state.start_day() {
                unblocked.push((model, &*state));
            }
        }
        unblocked
    }

    /// Returns whether nothing was spent today, nothing is reserved and the agent is not throttled.
    pub(crate) fn is_idle(&self) -> bool {
        let Details { reservations, throttled_by, .. } = &*self.details;
        self.overall.budget.spent == 0 && reservations.is_empty() && throttled_by.is_empty()
    }

    pub(crate) fn reservation(&self, id: u64) -> Option<OpenReservation> {
        self.details.reservations.iter().find(|open| open.id == id).copied()
    }

    /// Reserves from the agent's own budgets.
    pub(crate) fn reserve(&mut self, reservation: OpenReservation) {
        self.add_reserved(reservation.budgets.on_model, reservation.amount);
        self.details.reservations.push(reservation);
    }

    /// Ends a reservation in the agent's own budgets; `None` if it has ended already.
    pub(crate) fn release(&mut self, id: u64) -> Option<OpenReservation> {
        let index = self.details.reservations.iter().position(|open| open.id == id)?;
        let ended = self.details.reservations.swap_remove(index);
        self.add_reserved(ended.budgets.on_model, -ended.amount);
        Some(ended)
    }

    fn add_reserved(&mut self, model: Option<u32>, amount: i64) {
        self.overall.budget.add_reserved(amount);
        let on_model = self.details.on_models.iter_mut().find(|(known, _)| Some(*known) == model);
        on_model.into_iter().for_each(|(_, state)| state.budget.add_reserved(amount));
    }

    /// Returns the ids of the reservations that have expired.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.details.reservations.iter().filter(|open| open.expires <= now).map(|open| open.id).collect()
    }

    pub(crate) fn next_expiry(&self) -> Timestamp {
        let expiries = self.details.reservations.iter().map(|open| open.expires);
        expiries.min().unwrap_or(Timestamp::from_nanos(i64::MAX))
    }

    /// Adds a cost to the agent's history. Returns how it deviates from the costs before it.
    #[inline]
    pub(crate) fn assess(&mut self, cost: Usd, now: Timestamp) -> Deviation {
        let usual = &mut self.details.usual;
        let anomaly = self.anomalies.is_anomaly(cost).then(|| Box::new(self.anomalies.alert(cost, usual)));
        let is_runaway = self.anomalies.add(cost, now, || self.overall.budget.limit(), usual);
        Deviation { anomaly, is_runaway }
    }

    pub(crate) fn deviation_alerts(&self, deviation: Deviation) -> impl Iterator<Item = CostAlertKind> {
        let anomaly = deviation.anomaly.map(|anomaly| *anomaly);
        let runaway = deviation.is_runaway.then(|| self.anomalies.runaway_alert(&self.details.usual));
        anomaly.into_iter().chain(runaway)
    }
}

/// How a cost deviates from the agent's usual ones.
#[derive(Debug, Default)]
pub(crate) struct Deviation {
    /// Boxed because it is rarely set.
    anomaly: Option<Box<CostAlertKind>>,
    is_runaway: bool,
}

impl Deviation {
    pub(crate) fn is_any(&self) -> bool {
        self.anomaly.is_some() || self.is_runaway
    }
}
