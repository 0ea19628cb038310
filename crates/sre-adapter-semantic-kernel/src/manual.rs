use sre_core::event::{LlmCall, ToolCall};
use sre_core::{LlmUsage, Run, Usd};

/// A run of a kernel, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct KernelRun(pub(crate) Run);

impl KernelRun {
    /// Records a call of a plugin's function, which failed if `error` is given.
    pub fn on_plugin_call(&self, plugin: &str, function: &str, error: Option<&str>) {
        self.0.tool_call(&name(plugin, function), error);
    }

    /// Records the result of a plugin's function, and what its model calls cost, if known. Use it instead of
    /// [`Self::on_plugin_call`], not in addition.
    pub fn on_function_result(&self, plugin: &str, function: &str, success: bool, cost_usd: Option<Usd>) {
        let error = (!success).then(|| "failed".to_owned());
        self.0.record(ToolCall::new(name(plugin, function)).with_error(error));
        if let Some(cost_usd) = cost_usd {
            let mut call = LlmCall::new(None);
            call.cost_usd = Some(cost_usd);
            self.0.record(call);
        }
    }

    /// Records a step of a planner.
    pub fn on_plan_step(&self, step: &str) {
        self.0.step(step, "plan_step", None, None);
    }

    /// Records a model call.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.0.llm_call(usage);
    }

    /// Records the end of the run.
    pub fn on_kernel_end(self, success: bool, error: Option<&str>) {
        self.0.end(success, error);
    }
}

/// Returns the name of a function as the kernel passes it to the model.
fn name(plugin: &str, function: &str) -> String {
    format!("{plugin}-{function}")
}
