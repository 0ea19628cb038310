use serde::{Deserialize, Serialize};

/// How a task went, where its root does not say: it failed when a guardrail stopped it or its last model call failed.
/// A tool's failure that the agent got over is none of the task's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    root: Option<String>,
    guardrail: Option<String>,
    last_call: Option<String>,
}

impl Verdict {
    /// The framework says that the run failed.
    pub fn fail(&mut self, error: impl Into<String>) {
        self.root.get_or_insert_with(|| error.into());
    }

    /// A guardrail stopped the run.
    pub fn stop(&mut self, guardrail: &str) {
        self.guardrail.get_or_insert_with(|| format!("stopped by guardrail {guardrail}"));
    }

    /// A model call ended, in the order they ended.
    pub fn model_call(&mut self, error: Option<&str>) {
        self.last_call = error.map(str::to_owned);
    }

    /// Why the task failed; `None` when it succeeded.
    pub fn error(self) -> Option<String> {
        self.root.or(self.guardrail).or(self.last_call)
    }
}
