use sre_core::{LlmUsage, Run};

/// A run of an agent, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct AgentRun(pub(crate) Run);

impl AgentRun {
    /// Records a tool call, which failed if `error` is given.
    pub fn on_tool_call(&self, tool: &str, error: Option<&str>) {
        self.0.tool_call(tool, error);
    }

    /// Records a handoff of the task from one agent to another.
    pub fn on_handoff(&mut self, from: &str, to: &str) {
        self.0.handoff(from, to);
    }

    /// Records the result of a guardrail check.
    pub fn on_guardrail_check(&self, guardrail: &str, passed: bool) {
        self.0.policy_check(guardrail, passed);
    }

    /// Records a model call.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.0.llm_call(usage);
    }

    /// Records the end of the run.
    pub fn on_run_end(self, success: bool, error: Option<&str>) {
        self.0.end(success, error);
    }
}
