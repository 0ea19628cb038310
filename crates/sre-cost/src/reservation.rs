use std::ops::Deref;

use sre_core::{CostAlert, Usd};

use crate::{CostGuard, Refused, Spend};

/// An amount that is set aside for a call. Dropped without a commit, it is given back.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation<G: Deref<Target = CostGuard>> {
    guard: G,
    /// `None` once it is over.
    number: Option<u64>,
    agent: String,
    task: Option<String>,
    team: Option<String>,
    model: Option<String>,
    estimate: Usd,
}

impl<G: Deref<Target = CostGuard>> Reservation<G> {
    pub(crate) fn new(guard: G, number: u64, spend: &Spend<'_>) -> Self {
        let [task, team, model] = [spend.task, spend.team, spend.model].map(|name| name.map(str::to_owned));
        Self { guard, number: Some(number), agent: spend.agent.to_owned(), task, team, model, estimate: spend.amount }
    }

    /// What is set aside.
    pub fn estimate(&self) -> Usd {
        self.estimate
    }

    /// The call cost so much. That is entered in any case, also above the estimate, and after the reservation has expired;
    /// what it brings a budget beyond its limit is told. An amount that cannot be gives the reservation back.
    pub fn commit(self, actual: Usd) -> Result<Vec<CostAlert>, Refused> {
        self.commit_with(actual, &[])
    }

    /// The same, and what for.
    pub fn commit_with(mut self, actual: Usd, breakdown: &[(&str, Usd)]) -> Result<Vec<CostAlert>, Refused> {
        let Some(number) = self.number else { return Ok(Vec::new()) };
        let spend = Spend {
            agent: &self.agent,
            task: self.task.as_deref(),
            team: self.team.as_deref(),
            model: self.model.as_deref(),
            amount: actual,
            breakdown,
        };
        let alerts = self.guard.commit(number, &spend)?;
        self.number = None;
        Ok(alerts)
    }
}

impl<G: Deref<Target = CostGuard>> Drop for Reservation<G> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.guard.release(number, &self.agent);
        }
    }
}
