use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use crate::{
    BudgetLimit, CostScope, LedgerEntry, LedgerReservation, LedgerStore, LedgerTotals, ReserveOutcome, StoreError,
    Timestamp, Usd, lock,
};

/// A [`LedgerStore`] in memory, with totals and reservations but without single amounts. For tests, and for replacing a
/// guard in a running process.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    agents: BTreeMap<(Timestamp, String), (Usd, u64)>,
    models: BTreeMap<(Timestamp, String, String), Usd>,
    shared: BTreeMap<(Timestamp, String), Usd>,
    months: BTreeMap<Timestamp, Usd>,
    reservations: BTreeMap<u64, LedgerReservation>,
}

impl State {
    fn spent(&self, scope: &CostScope, period: Timestamp) -> Usd {
        let spent = match scope {
            CostScope::Agent(agent) => self.agents.get(&(period, agent.clone())).map(|(spent, _)| spent),
            CostScope::AgentOnModel { agent, model } => self.models.get(&(period, agent.clone(), model.clone())),
            CostScope::Team(_) | CostScope::Model(_) => self.shared.get(&(period, scope.to_string())),
            CostScope::Org => self.months.get(&period),
        };
        spent.copied().unwrap_or_default()
    }

    fn reserved(&self, scope: &CostScope, now: Timestamp) -> Usd {
        let open = self.reservations.values().filter(|open| open.expires > now && open.counts_toward(scope));
        open.map(|open| open.amount).sum()
    }
}

impl MemoryLedger {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn record(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError> {
        let mut state = self.state();
        let agent = state.agents.entry((entry.day, entry.agent.clone())).or_default();
        agent.0 += entry.amount;
        agent.1 += u64::from(entry.is_new_task);
        if let Some(model) = &entry.model {
            *state.models.entry((entry.day, entry.agent.clone(), model.clone())).or_default() += entry.amount;
        }
        for name in &entry.shared {
            *state.shared.entry((entry.day, name.clone())).or_default() += entry.amount;
        }
        *state.months.entry(entry.month).or_default() += entry.amount;
        settles.map(|id| state.reservations.remove(&id));
        Ok(())
    }

    async fn reserve(
        &self,
        reservation: &LedgerReservation,
        limits: &[BudgetLimit],
        now: Timestamp,
    ) -> Result<ReserveOutcome, StoreError> {
        let mut state = self.state();
        for limit in limits {
            let used = state.spent(&limit.scope, limit.period) + state.reserved(&limit.scope, now);
            let outcome = limit.check(used, reservation.amount);
            if outcome != ReserveOutcome::Reserved {
                return Ok(outcome);
            }
        }
        state.reservations.insert(reservation.id, reservation.clone());
        Ok(ReserveOutcome::Reserved)
    }

    async fn release(&self, id: u64) -> Result<(), StoreError> {
        self.state().reservations.remove(&id);
        Ok(())
    }

    async fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        let is_reset = |on: Timestamp, name: &str| on == day && agent.is_none_or(|agent| agent == name);
        state.agents.retain(|(on, name), _| !is_reset(*on, name));
        state.models.retain(|(on, name, _), _| !is_reset(*on, name));
        Ok(())
    }

    async fn totals(&self, day: Timestamp, month: Timestamp) -> Result<LedgerTotals, StoreError> {
        let state = self.state();
        let agents = state.agents.iter().filter(|((of, _), _)| *of == day);
        let models = state.models.iter().filter(|((of, ..), _)| *of == day);
        let shared = state.shared.iter().filter(|((of, _), _)| *of == day);
        Ok(LedgerTotals {
            agents: agents.map(|((_, agent), (spent, tasks))| (agent.clone(), *spent, *tasks)).collect(),
            models: models.map(|((_, agent, model), spent)| (agent.clone(), model.clone(), *spent)).collect(),
            shared: shared.map(|((_, name), spent)| (name.clone(), *spent)).collect(),
            org: state.months.get(&month).copied().unwrap_or_default(),
            reservations: state.reservations.values().cloned().collect(),
        })
    }

    async fn prune(&self, entries_before: Timestamp, totals_before: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        state.agents.retain(|(day, _), _| *day >= totals_before);
        state.models.retain(|(day, ..), _| *day >= totals_before);
        state.shared.retain(|(day, _), _| *day >= totals_before);
        state.months.retain(|month, _| *month >= totals_before);
        state.reservations.retain(|_, open| open.expires >= entries_before);
        Ok(())
    }
}
