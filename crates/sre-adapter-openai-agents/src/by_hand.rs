use sre_core::{LlmUsage, Run};

/// A run of an agent, recorded by hand. Dropped without an end, it counts as incomplete.
#[derive(Debug)]
pub struct AgentRun(pub(crate) Run);

impl AgentRun {
    /// A tool was called; `error` where it failed.
    pub fn on_tool_call(&self, tool: &str, error: Option<&str>) {
        self.0.tool_call(tool, error);
    }

    /// One agent passed the task on to another.
    pub fn on_handoff(&mut self, from: &str, to: &str) {
        self.0.handoff(from, to);
    }

    /// A guardrail was checked.
    pub fn on_guardrail_check(&self, guardrail: &str, passed: bool) {
        self.0.policy_check(guardrail, passed);
    }

    /// A model was called.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.0.llm_call(usage);
    }

    /// The run ended.
    pub fn on_run_end(self, success: bool, error: Option<&str>) {
        self.0.end(success, error);
    }
}
