use serde::{Deserialize, Serialize};

use crate::event::{LlmCall, TaskFinished, ToolCall};
use crate::{AgentEvent, Event, Metric, MetricUnit, StateError, StateReader, StateWriter, TaskCosts, Usd};

/// Totals over all events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Totals {
    /// Finished tasks, including those closed as incomplete.
    pub tasks: u64,
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Tasks that failed, including incomplete ones.
    pub failed: u64,
    /// Tasks that never reported an end.
    pub incomplete: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Tool calls that failed.
    pub tool_errors: u64,
    /// Language model calls.
    pub llm_calls: u64,
    /// Language model calls that failed.
    pub llm_errors: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Cost of the tasks: a task's own cost if reported, otherwise the sum of its model calls.
    pub cost_usd: Usd,
}

impl Totals {
    /// Emits the sums as counters.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for (name, all, failed, help) in [
            ("sre.tasks", self.tasks, self.failed, "Finished tasks, by outcome."),
            ("sre.tool_calls", self.tool_calls, self.tool_errors, "Tool calls, by outcome."),
            ("sre.llm_calls", self.llm_calls, self.llm_errors, "Language model calls, by outcome."),
        ] {
            for (outcome, count) in [("succeeded", all.saturating_sub(failed)), ("failed", failed)] {
                emit(Metric::counter(name, count as f64).with_label("outcome", outcome).with_help(help));
            }
        }
        let incomplete = Metric::counter("sre.incomplete_tasks", self.incomplete as f64);
        emit(incomplete.with_help("Failed tasks that never reported an end."));
        for (direction, tokens) in [("input", self.input_tokens), ("output", self.output_tokens)] {
            let tokens = Metric::counter("sre.llm_tokens", tokens as f64).with_label("direction", direction);
            emit(tokens.with_help("Tokens of language model calls."));
        }
        let cost = Metric::counter("sre.cost", self.cost_usd.as_dollars()).with_unit(MetricUnit::Dollars);
        emit(cost.with_help("Cost of tasks."));
    }
}

/// Adds up events to [`Totals`].
#[derive(Debug, Default)]
pub struct Tally {
    totals: Totals,
    costs: TaskCosts,
}

impl Tally {
    /// Counts one event.
    pub fn observe(&mut self, event: &AgentEvent) {
        let totals = &mut self.totals;
        match &event.event {
            Event::TaskFinished(TaskFinished { success, .. }) => {
                totals.tasks += 1;
                totals.succeeded += u64::from(*success);
                totals.failed += u64::from(!success);
                totals.incomplete += u64::from(event.is_incomplete());
            }
            Event::ToolCall(ToolCall { success, .. }) => {
                totals.tool_calls += 1;
                totals.tool_errors += u64::from(!success);
            }
            Event::LlmCall(LlmCall { success, input_tokens, output_tokens, .. }) => {
                totals.llm_calls += 1;
                totals.llm_errors += u64::from(!success);
                totals.input_tokens = totals.input_tokens.saturating_add(*input_tokens);
                totals.output_tokens = totals.output_tokens.saturating_add(*output_tokens);
            }
            _ => return,
        }
        totals.cost_usd += self.costs.change(event);
    }

    /// Saves the sums.
    pub fn save(&self, state: &mut StateWriter) {
        state.put(&self.totals);
        self.costs.save(state);
    }

    /// Restores saved sums.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.totals = state.take()?;
        self.costs.restore(state)
    }

    /// Returns the sums so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}
