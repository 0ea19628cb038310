use std::ops::Deref;
use std::sync::Arc;

use sre_core::{CostAlert, Usd};

use crate::denied::Denied;
use crate::guard::CostGuard;
use crate::spend::Spend;

/// An amount reserved for a call. Dropping it without a commit releases it.
#[derive(Debug)]
#[must_use = "dropping a reservation releases it"]
pub struct Reservation<G: Deref<Target = CostGuard>> {
    guard: G,
    /// `None` after a commit.
    id: Option<u64>,
    agent: String,
    task: Option<String>,
    team: Option<String>,
    model: Option<String>,
    estimate: Usd,
}

impl CostGuard {
    /// Reserves an amount for a call, if every limit allows it. Commit it with the actual cost; dropping it releases it, and
    /// a leaked one expires after [`Limits::reservation_timeout`](crate::Limits::reservation_timeout).
    pub fn reserve(&self, agent: &str, estimate: Usd) -> Result<Reservation<&Self>, Denied> {
        self.reserve_for(&Spend::new(agent, estimate))
    }

    /// Like [`reserve`](Self::reserve), with the task, team and model known.
    pub fn reserve_for(&self, spend: &Spend<'_>) -> Result<Reservation<&Self>, Denied> {
        self.reserve_id(spend).map(|id| Reservation::new(self, id, spend))
    }

    /// Like [`reserve_for`](Self::reserve_for), for a reservation that outlives the borrow of the guard.
    pub fn reserve_owned(self: &Arc<Self>, spend: &Spend<'_>) -> Result<Reservation<Arc<Self>>, Denied> {
        self.reserve_id(spend).map(|id| Reservation::new(self.clone(), id, spend))
    }
}

impl<G: Deref<Target = CostGuard>> Reservation<G> {
    fn new(guard: G, id: u64, spend: &Spend<'_>) -> Self {
        let [task, team, model] = [spend.task, spend.team, spend.model].map(|name| name.map(str::to_owned));
        Self { guard, id: Some(id), agent: spend.agent.to_owned(), task, team, model, estimate: spend.amount }
    }

    /// Returns the reserved amount.
    pub fn estimate(&self) -> Usd {
        self.estimate
    }

    /// Replaces the reservation by the actual cost, even above the estimate or after the reservation has expired. Returns the
    /// alerts that this raises.
    ///
    /// # Errors
    /// Returns [`Denied::InvalidAmount`] if `actual` is out of range, and releases the reservation.
    pub fn commit(self, actual: Usd) -> Result<Vec<CostAlert>, Denied> {
        self.commit_with(actual, &[])
    }

    /// Like [`commit`](Self::commit), with a breakdown of the cost.
    pub fn commit_with(mut self, actual: Usd, breakdown: &[(&str, Usd)]) -> Result<Vec<CostAlert>, Denied> {
        let Some(id) = self.id else { return Ok(Vec::new()) };
        let spend = Spend {
            agent: &self.agent,
            task: self.task.as_deref(),
            team: self.team.as_deref(),
            model: self.model.as_deref(),
            amount: actual,
            breakdown,
        };
        let alerts = self.guard.commit(id, &spend)?;
        self.id = None;
        Ok(alerts)
    }
}

impl<G: Deref<Target = CostGuard>> Drop for Reservation<G> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.guard.release(id, &self.agent);
        }
    }
}
