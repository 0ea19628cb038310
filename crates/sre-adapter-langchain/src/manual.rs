use std::collections::BTreeMap;

use sre_core::adapter::TokenCosts;
use sre_core::event::{LlmCall, StepFinished, ToolCall};
use sre_core::{LlmUsage, Run, Timestamp};

/// A run of a chain, recorded manually. Dropping it without ending it records it as incomplete.
///
/// Calls have ids of the caller, as in LangChain's callbacks. The end of a call that has not started is recorded without a
/// duration.
#[derive(Debug)]
pub struct ChainRun {
    run: Run,
    costs: Option<TokenCosts>,
    /// The calls that have not ended.
    open: BTreeMap<String, OpenCall>,
}

/// A call that has not ended.
#[derive(Debug, Default)]
struct OpenCall {
    name: String,
    started: Option<Timestamp>,
    first_token: Option<Timestamp>,
}

impl OpenCall {
    /// Returns how long it has taken, in milliseconds.
    fn millis_until(&self, time: Timestamp) -> Option<f64> {
        self.started.map(|started| time.millis_since(started))
    }

    fn first_token_ms(&self) -> Option<f64> {
        self.first_token.zip(self.started).map(|(first, started)| first.millis_since(started))
    }
}

impl ChainRun {
    pub(crate) fn new(run: Run, costs: Option<TokenCosts>) -> Self {
        Self { run, costs, open: BTreeMap::new() }
    }

    /// Records the start of a model call.
    pub fn on_llm_start(&mut self, model: &str, run_id: &str) {
        self.start(model, run_id);
    }

    /// Records a streamed token of a model call.
    pub fn on_llm_new_token(&mut self, run_id: &str) {
        let now = self.run.now();
        if let Some(call) = self.open.get_mut(run_id) {
            call.first_token.get_or_insert(now);
        }
    }

    /// Records the end of a model call. Its cost is that of `usage`, or else what its tokens cost.
    pub fn on_llm_end(&mut self, run_id: &str, usage: LlmUsage) {
        let mut call = self.end_llm(run_id);
        (call.input_tokens, call.output_tokens) = (usage.input_tokens, usage.output_tokens);
        let of_tokens = || self.costs.map(|costs| costs.of(usage.input_tokens, usage.output_tokens));
        call.cost_usd = usage.cost_usd.or_else(of_tokens);
        self.run.record(call);
    }

    /// Records the failure of a model call.
    pub fn on_llm_error(&mut self, run_id: &str, error: &str) {
        let call = self.end_llm(run_id).with_error(Some(error.to_owned()));
        self.run.record(call);
    }

    /// Records the start of a tool call.
    pub fn on_tool_start(&mut self, tool: &str, run_id: &str) {
        self.start(tool, run_id);
    }

    /// Records the end of a tool call.
    pub fn on_tool_end(&mut self, run_id: &str) {
        self.end_tool(run_id, None);
    }

    /// Records the failure of a tool call.
    pub fn on_tool_error(&mut self, run_id: &str, error: &str) {
        self.end_tool(run_id, Some(error));
    }

    /// Records what an agent does next: a step with the name of the tool.
    pub fn on_agent_action(&self, tool: &str) {
        self.run.record(StepFinished::new(tool, "agent_action"));
    }

    /// Records the end of the chain.
    pub fn on_chain_end(self) {
        self.run.end(true, None);
    }

    /// Records the failure of the chain.
    pub fn on_chain_error(self, error: &str) {
        self.run.end(false, Some(error));
    }

    fn start(&mut self, name: &str, run_id: &str) {
        let call = OpenCall { name: name.to_owned(), started: Some(self.run.now()), first_token: None };
        self.open.insert(run_id.to_owned(), call);
    }

    fn end_llm(&mut self, run_id: &str) -> LlmCall {
        let open = self.open.remove(run_id).unwrap_or_default();
        let mut call = LlmCall::new(Some(open.name.clone()).filter(|model| !model.is_empty()));
        call.duration_ms = open.millis_until(self.run.now());
        call.first_token_ms = open.first_token_ms();
        call
    }

    fn end_tool(&mut self, run_id: &str, error: Option<&str>) {
        let open = self.open.remove(run_id).unwrap_or_default();
        let mut call = ToolCall::new(&open.name).with_error(error.map(str::to_owned));
        call.duration_ms = open.millis_until(self.run.now());
        self.run.record(call);
    }
}
