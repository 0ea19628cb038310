use serde_json::value::RawValue;
use sre_core::adapter::{AdapterError, IngestLimits, OpenSpan, SpanAdapter, SpanEnd, SpanKind, TokenCosts};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, arguments_hash};

use crate::manual::ChainRun;
use crate::wire::{Line, Metadata};

sre_core::span_adapter! {
    /// Reads the callbacks of LangChain, and creates the same events for manual recording.
    pub struct LangChainAdapter { costs: Option<TokenCosts> }
    step_kind: "node",
}

impl LangChainAdapter {
    /// Sets what tokens cost. Without it, model calls have the costs that price lists give them.
    #[must_use]
    pub fn with_token_costs(self, costs: TokenCosts) -> Self {
        Self { costs: Some(costs), ..self }
    }

    /// Starts a run of a chain. Its events are recorded through the returned handle.
    pub fn on_chain_start(&self, chain: &str) -> ChainRun {
        ChainRun::new(self.recorder.start(chain), self.costs)
    }

    fn start(&mut self, kind: SpanKind, id: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let mut limiter = StringLimiter::default();
        let (name, metadata) = (line.name(&mut limiter), line.metadata(&mut limiter));
        self.runs.tracker().counts.shortened += limiter.shortened;
        let is_node = name.is_some() && name == metadata.langgraph_node;
        let Some(parent) = line.parent_run_id.as_deref() else {
            self.runs.start_run(id, line.agent.as_deref().or(name.as_deref()), line.time, emit);
            if kind != SpanKind::Wrapper {
                // A model or tool that is called without a chain is a task and its only call.
                self.runs.start_span(id, &call_of(id), span(kind, name, metadata, line), emit);
            }
            return;
        };
        let Some(run) = self.runs.run_of(parent).map(str::to_owned) else {
            self.runs.tracker().counts.unmatched += 1;
            return;
        };
        let kind = if is_node && kind == SpanKind::Wrapper { SpanKind::Step } else { kind };
        let mut span = span(kind, name, metadata, line);
        span.parent = (parent != run).then(|| parent.to_owned());
        self.runs.start_span(&run, id, span, emit);
    }

    fn end(
        &mut self,
        id: &str,
        line: &Line<'_>,
        error: Option<String>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let is_run = self.runs.tracker().get(id).is_some();
        let span = if is_run { call_of(id) } else { id.to_owned() };
        if let Some(kind) = self.runs.span_mut(&span).map(|span| span.kind) {
            let mut end = match &error {
                Some(error) => SpanEnd { error: Some(error.clone()), ..SpanEnd::default() },
                None => line.end(kind),
            };
            if kind == SpanKind::Model {
                end.cost_usd = self.costs.map(|costs| costs.of(end.input_tokens, end.output_tokens));
            }
            self.runs.end_span(&span, line.time, end, emit)?;
        } else if !is_run {
            self.runs.tracker().counts.unmatched += 1;
        }
        if is_run {
            self.runs.end_run(id, line.time, error, emit);
        }
        Ok(())
    }
}

fn span(kind: SpanKind, name: Option<String>, metadata: Metadata, line: &Line<'_>) -> OpenSpan {
    let mut span = OpenSpan::new(kind, name.filter(|_| kind != SpanKind::Wrapper).unwrap_or_default(), line.time);
    match kind {
        SpanKind::Model => (span.model, span.provider) = (metadata.ls_model_name, metadata.ls_provider),
        SpanKind::Tool => {
            span.arguments_hash = line.inputs.map(RawValue::get).map(arguments_hash);
            span.operation_id.clone_from(&line.tool_call_id);
        }
        _ => {}
    }
    span
}

/// Returns the id of the only call of a run without a chain.
fn call_of(run: &str) -> String {
    format!("{run}/call")
}

impl SpanAdapter for LangChainAdapter {
    fn read(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let mut line: Line<'_> = serde_json::from_slice(record)?;
        self.runs.advance(line.time, limits, emit)?;
        let mut limiter = StringLimiter::default();
        line.limit_strings(&mut limiter);
        self.runs.tracker().counts.shortened += limiter.shortened;
        let Some(id) = line.run_id.as_deref() else {
            self.runs.tracker().counts.unknown += 1;
            return Ok(());
        };
        match &*line.event {
            "on_chain_start" => self.start(SpanKind::Wrapper, id, &line, emit),
            "on_chat_model_start" | "on_llm_start" => self.start(SpanKind::Model, id, &line, emit),
            "on_tool_start" => self.start(SpanKind::Tool, id, &line, emit),
            "on_retriever_start" => self.start(SpanKind::Step, id, &line, emit),
            "on_llm_new_token" => {
                let span = if self.runs.tracker().get(id).is_some() { call_of(id) } else { id.to_owned() };
                if let Some(span) = self.runs.span_mut(&span) {
                    span.first_token.get_or_insert(line.time);
                }
            }
            "on_chain_end" | "on_llm_end" | "on_tool_end" | "on_retriever_end" => self.end(id, &line, None, emit)?,
            "on_chain_error" | "on_llm_error" | "on_tool_error" | "on_retriever_error" => {
                let mut error = line.error();
                StringLimiter::default().text(&mut error);
                self.end(id, &line, Some(error), emit)?;
            }
            event if event.starts_with("on_") => {}
            _ => self.runs.tracker().counts.unknown += 1,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{Adapter, Event};

    use super::*;

    fn read(lines: &[&str]) -> Vec<Event> {
        let (mut adapter, mut events) = (LangChainAdapter::default(), Vec::new());
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event.event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event.event));
        events
    }

    #[test]
    fn a_model_without_a_chain_is_a_task_and_its_only_call() {
        let events = read(&[
            r#"{"event":"on_chat_model_start","time":1,"run_id":"1","parent_run_id":null,"args":[{"name":"ChatOpenAI"}],"metadata":{"ls_model_name":"gpt-5"}}"#,
            r#"{"event":"on_llm_new_token","time":2,"run_id":"1","args":["Hi"]}"#,
            r#"{"event":"on_llm_end","time":3,"run_id":"1","args":[{"generations":[[{"message":{"usage_metadata":{"input_tokens":5,"output_tokens":2,"input_token_details":{"cache_read":4}}}}]]}]}"#,
        ]);
        let [Event::TaskStarted(task), Event::LlmCall(call), Event::TaskFinished(end)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((task.name.as_deref(), end.success), (Some("ChatOpenAI"), true));
        assert_eq!((call.model.as_deref(), call.first_token_ms), (Some("gpt-5"), Some(1000.0)));
        assert_eq!((call.input_tokens, call.cached_input_tokens, call.output_tokens), (5, 4, 2));
    }

    #[test]
    fn token_costs_apply_to_calls_that_are_read() {
        let mut adapter = LangChainAdapter::default().with_token_costs(TokenCosts::default());
        let mut costs = Vec::new();
        for line in [
            r#"{"event":"on_llm_start","time":1,"run_id":"1","parent_run_id":null}"#,
            r#"{"event":"on_llm_end","time":3,"run_id":"1","args":[{"llm_output":{"token_usage":{"prompt_tokens":1000}}}]}"#,
        ] {
            adapter.ingest(line.as_bytes(), &mut |event| costs.extend(event.event.cost_usd())).unwrap();
        }
        assert_eq!(costs, ["0.003".parse().unwrap()]);
    }
}
