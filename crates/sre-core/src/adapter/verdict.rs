use serde::{Deserialize, Serialize};

/// Decides whether a task succeeded where its root does not say: it failed when a guardrail stopped it or its last model
/// call failed. A failure of a tool from which the agent recovered is no failure of the task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    root: Option<String>,
    guardrail: Option<String>,
    last_call: Option<String>,
}

impl Verdict {
    /// Records that the framework says the run failed.
    pub fn fail(&mut self, error: impl Into<String>) {
        self.root.get_or_insert_with(|| error.into());
    }

    /// Records that a guardrail stopped the run.
    pub fn stop(&mut self, guardrail: &str) {
        self.guardrail.get_or_insert_with(|| format!("stopped by guardrail {guardrail}"));
    }

    /// Records the end of a model call, in the order they ended.
    pub fn model_call(&mut self, error: Option<&str>) {
        self.last_call = error.map(str::to_owned);
    }

    /// Returns why the task failed; `None` when it succeeded.
    pub fn error(self) -> Option<String> {
        self.root.or(self.guardrail).or(self.last_call)
    }
}
