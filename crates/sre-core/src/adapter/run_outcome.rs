use serde::{Deserialize, Serialize};

/// Decides whether a task succeeded if its root does not report it. The task failed if a guardrail stopped it or its
/// last model call failed. A failed tool call from which the agent recovered does not fail the task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunOutcome {
    root: Option<String>,
    guardrail: Option<String>,
    last_call: Option<String>,
}

impl RunOutcome {
    /// Records that the framework reported the run as failed.
    pub fn fail(&mut self, error: impl Into<String>) {
        self.root.get_or_insert_with(|| error.into());
    }

    /// Records that a guardrail stopped the run.
    pub fn stop(&mut self, guardrail: &str) {
        self.guardrail.get_or_insert_with(|| format!("stopped by guardrail {guardrail}"));
    }

    /// Records the end of a model call. Calls must be recorded in the order of their ends.
    pub fn model_call(&mut self, error: Option<&str>) {
        self.last_call = error.map(str::to_owned);
    }

    /// Returns why the task failed, or `None` if it succeeded.
    pub fn error(self) -> Option<String> {
        self.root.or(self.guardrail).or(self.last_call)
    }
}
