use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use sre_core::event::LlmCall;
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Event, Observe, Persist, Signal, SignalSink, Snapshot, StateError, StateReader, StateWriter,
    TaskCosts, Timestamp, Usd,
};

use crate::guard::CostGuard;
use crate::operations::ChargeMode;
use crate::spend::Spend;

/// Records the costs in a stream of events: of each model call, and of tasks that report a total of their own, which replaces
/// the sum of their calls.
///
/// Days and months follow the guard's clock, not the times of the events. Do not record by hand what is in the events. The
/// saved state includes the guard's totals, so use it for a guard without a store.
#[derive(Debug)]
pub struct CostObserver {
    guard: Arc<CostGuard>,
    costs: Mutex<TaskCosts>,
}

const MAX_OPEN_TASKS: usize = 16_384;

impl CostObserver {
    /// Creates an observer that records into `guard`.
    pub fn new(guard: Arc<CostGuard>) -> Self {
        Self { guard, costs: Mutex::new(TaskCosts::new(MAX_OPEN_TASKS)) }
    }

    /// Returns the guard that it records into.
    pub fn guard(&self) -> &Arc<CostGuard> {
        &self.guard
    }
}

impl Observe for CostObserver {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        let amount = lock(&self.costs).change(event);
        let (model, breakdown) = match &event.event {
            Event::LlmCall(LlmCall { model, .. }) => {
                (model.as_deref(), model.as_deref().map(|model| [(model, amount)]))
            }
            _ => (None, None),
        };
        if amount != Usd::ZERO {
            let key = event.task_key();
            let task = Some(&*key).filter(|task| !task.is_empty());
            let team = event.attributes.get("team").and_then(|team| team.as_str());
            let breakdown = breakdown.as_ref().map_or(&[][..], |parts| parts);
            let spend = Spend { agent: &event.agent, task, team, model, amount, breakdown };
            // An unlimited charge is never denied. A task's total below the sum of its calls is a negative amount.
            let _ = self.guard.charge_with(&spend, ChargeMode::Unlimited, None);
            self.guard.notifier.outlet.flush_to(signals);
        }
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        self.guard.evaluate_at(now);
        self.guard.notifier.outlet.flush_to(signals);
    }

    fn reassert(&self, signals: &mut dyn FnMut(Signal)) {
        self.guard.notifier.reassert();
        self.guard.notifier.outlet.flush_to(signals);
    }

    fn connect(&self, signals: Arc<dyn SignalSink>) {
        self.guard.connect(signals);
    }
}

impl Collect for CostObserver {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Costs(self.guard.snapshot_at(now))]
    }
}

impl Persist for CostObserver {
    fn name(&self) -> Cow<'_, str> {
        "costs".into()
    }

    fn save(&self, state: &mut StateWriter) {
        state.section("tasks", |state| lock(&self.costs).save(state));
        state.section("ledger", |state| self.guard.save(state));
        state.section("task costs", |state| state.put(&self.guard.ledger.task_costs()));
        state.section("exhausted", |state| self.guard.save_exhausted(state));
        let statuses = serde_json::to_string(&self.guard.notifier.statuses()).unwrap_or_default();
        state.section("statuses", |state| state.put(&statuses));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let no_signals = |error| StateError::new(format!("found no signals ({error})"));
        let mut statuses = Vec::new();
        for section in state.sections() {
            match section? {
                ("tasks", mut state) => lock(&self.costs).restore(&mut state)?,
                ("ledger", mut state) => self.guard.restore(&mut state)?,
                ("task costs", mut state) => self.guard.ledger.restore_task_costs(state.take()?),
                ("exhausted", mut state) => self.guard.restore_exhausted(&mut state)?,
                ("statuses", mut state) => {
                    statuses = serde_json::from_str(&state.take::<String>()?).map_err(no_signals)?;
                }
                _ => {}
            }
        }
        // Last, since it compares them with who is throttled or denied by now.
        self.guard.restore_statuses(statuses);
        Ok(())
    }
}
