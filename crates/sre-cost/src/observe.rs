use std::sync::Mutex;

use sre_core::event::LlmCall;
use sre_core::{
    AgentEvent, Event, Observer, Signal, Snapshot, StateError, StateReader, StateWriter, TaskCosts, Timestamp, lock,
};

use crate::operations::Mode;
use crate::{CostGuard, Spend};

/// Enters what events say was spent: calls at once, and where a task has a figure of its own, that instead of its calls'.
///
/// Days and months are those of the guard's clock, whatever the events' times are. Do not also record by hand what the events
/// say. What it saves holds the sums of the guard too: leave that without a ledger then.
#[derive(Debug)]
pub struct CostObserver {
    guard: std::sync::Arc<CostGuard>,
    costs: Mutex<TaskCosts>,
}

impl CostObserver {
    /// Enters into this guard's books.
    pub fn new(guard: std::sync::Arc<CostGuard>) -> Self {
        Self { guard, costs: Mutex::new(TaskCosts::new(16_384)) }
    }
}

impl Observer for CostObserver {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        let amount = lock(&self.costs).change(event);
        let (model, breakdown) = match &event.event {
            Event::LlmCall(LlmCall { model, .. }) => {
                (model.as_deref(), model.as_deref().map(|model| [(model, amount)]))
            }
            _ => (None, None),
        };
        if amount != sre_core::Usd::ZERO {
            let key = event.task_key();
            let task = Some(&*key).filter(|task| !task.is_empty());
            let team = event.attributes.get("team").and_then(|team| team.as_str());
            let breakdown = breakdown.as_ref().map_or(&[][..], |parts| parts);
            let spend = Spend { agent: &event.agent, task, team, model, amount, breakdown };
            // What must be entered is never refused.
            let _ = self.guard.enter(&spend, Mode::Must, None);
            self.guard.take_pending().into_iter().for_each(signals);
        }
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        self.guard.evaluate_at(now);
        self.guard.take_pending().into_iter().for_each(signals);
    }

    fn save(&self, state: &mut StateWriter) {
        lock(&self.costs).save(state);
        self.guard.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        lock(&self.costs).restore(state)?;
        self.guard.restore(state)
    }

    fn snapshot(&self, now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Costs(self.guard.snapshot_at(now))]
    }
}
