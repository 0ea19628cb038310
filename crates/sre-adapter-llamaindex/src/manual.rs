use sre_core::adapter::TokenCosts;
use sre_core::event::{LlmCall, StepFinished};
use sre_core::{LlmUsage, Run, Timestamp};

/// A query, recorded manually. Dropping it without ending it records it as incomplete.
///
/// Each `…_start` method is followed by the `…_end` method of the same kind; of what overlaps, the latest ends first.
#[derive(Debug)]
pub struct QueryRun {
    run: Run,
    costs: Option<TokenCosts>,
    /// What has started and not ended, with its kind.
    open: Vec<(&'static str, Timestamp)>,
}

impl QueryRun {
    pub(crate) fn new(run: Run, costs: Option<TokenCosts>) -> Self {
        Self { run, costs, open: Vec::new() }
    }

    /// Records the start of a model call.
    pub fn on_llm_start(&mut self) {
        self.start("llm");
    }

    /// Records the end of a model call. Its cost is that of `usage`, or else what its tokens cost.
    pub fn on_llm_end(&mut self, usage: LlmUsage) {
        let mut call = LlmCall::new(None);
        call.duration_ms = self.end("llm");
        (call.input_tokens, call.output_tokens) = (usage.input_tokens, usage.output_tokens);
        let of_tokens = || self.costs.map(|costs| costs.of(usage.input_tokens, usage.output_tokens));
        call.cost_usd = usage.cost_usd.or_else(of_tokens);
        self.run.record(call);
    }

    /// Records the failure of a model call.
    pub fn on_llm_error(&mut self, error: &str) {
        let mut call = LlmCall::new(None).with_error(Some(error.to_owned()));
        call.duration_ms = self.end("llm");
        self.run.record(call);
    }

    /// Records the start of a retrieval.
    pub fn on_retriever_start(&mut self) {
        self.start("retriever");
    }

    /// Records the end of a retrieval.
    pub fn on_retriever_end(&mut self) {
        self.step("retriever", None);
    }

    /// Records the failure of a retrieval.
    pub fn on_retriever_error(&mut self, error: &str) {
        self.step("retriever", Some(error));
    }

    /// Records the start of a sub-question.
    pub fn on_sub_question(&mut self) {
        self.start("sub_question");
    }

    /// Records the answer to a sub-question.
    pub fn on_sub_question_end(&mut self) {
        self.step("sub_question", None);
    }

    /// Records the start of the synthesis of an answer.
    pub fn on_synthesize_start(&mut self) {
        self.start("synthesize");
    }

    /// Records the end of the synthesis of an answer.
    pub fn on_synthesize_end(&mut self) {
        self.step("synthesize", None);
    }

    /// Records the end of the query.
    pub fn on_query_end(self) {
        self.run.end(true, None);
    }

    /// Records the failure of the query.
    pub fn on_query_error(self, error: &str) {
        self.run.end(false, Some(error));
    }

    fn start(&mut self, kind: &'static str) {
        self.open.push((kind, self.run.now()));
    }

    /// Returns how long the latest of a kind has taken, in milliseconds.
    fn end(&mut self, kind: &str) -> Option<f64> {
        let latest = self.open.iter().rposition(|(open, _)| *open == kind)?;
        let (_, started) = self.open.remove(latest);
        Some(self.run.now().millis_since(started))
    }

    fn step(&mut self, kind: &'static str, error: Option<&str>) {
        let mut step = StepFinished::new(kind, kind).with_error(error.map(str::to_owned));
        step.duration_ms = self.end(kind);
        self.run.record(step);
    }
}
