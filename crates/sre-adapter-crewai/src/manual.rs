use std::collections::BTreeMap;

use sre_core::event::{LlmCall, StepFinished};
use sre_core::{Run, Timestamp, Usd};

/// A run of a crew, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct CrewRun {
    run: Run,
    /// The start of every agent's task that has not ended.
    tasks: BTreeMap<String, Timestamp>,
}

impl CrewRun {
    pub(crate) fn new(run: Run) -> Self {
        Self { run, tasks: BTreeMap::new() }
    }

    /// Records that the agent with a role has started a task.
    pub fn on_agent_task(&mut self, role: &str) {
        self.tasks.insert(role.to_owned(), self.run.now());
    }

    /// Records that the agent with a role has ended its task, and what its model calls cost, if known.
    pub fn on_agent_complete(&mut self, role: &str, success: bool, cost_usd: Option<Usd>) {
        let mut step = StepFinished::new(role, "agent_task").with_error((!success).then(|| "failed".to_owned()));
        step.duration_ms = self.tasks.remove(role).map(|started| self.run.now().millis_since(started));
        self.run.record(step);
        if let Some(cost_usd) = cost_usd {
            let mut call = LlmCall::new(None);
            call.cost_usd = Some(cost_usd);
            self.run.record(call);
        }
    }

    /// Records a tool call, which failed if `error` is given.
    pub fn on_tool_use(&self, tool: &str, error: Option<&str>) {
        self.run.tool_call(tool, error);
    }

    /// Records the end of the crew.
    pub fn on_crew_end(self, success: bool, error: Option<&str>) {
        self.run.end(success, error);
    }
}
