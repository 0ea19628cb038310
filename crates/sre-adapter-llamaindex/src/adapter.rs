use sre_core::AgentEvent;
use sre_core::adapter::{AdapterError, IngestLimits, OpenSpan, SpanAdapter, SpanEnd, SpanKind, TokenCosts};
use sre_core::event::StringLimiter;

use crate::manual::QueryRun;
use crate::wire::Line;

sre_core::span_adapter! {
    /// Reads the spans and events of LlamaIndex's instrumentation, and creates the same events for manual recording.
    pub struct LlamaIndexAdapter { costs: Option<TokenCosts> }
    step_kind: "step",
}

impl LlamaIndexAdapter {
    /// Sets what tokens cost. Without it, model calls have the costs that price lists give them.
    #[must_use]
    pub fn with_token_costs(self, costs: TokenCosts) -> Self {
        Self { costs: Some(costs), ..self }
    }

    /// Starts a query of an agent or query engine. Its events are recorded through the returned handle.
    pub fn on_query_start(&self, agent: &str) -> QueryRun {
        QueryRun::new(self.recorder.start(agent), self.costs)
    }

    fn span_enter(&mut self, id: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let (class, method) = class_and_method(id);
        let Some(parent) = line.parent.as_deref() else {
            // Other spans without a parent, such as those of building an index, are no tasks.
            if is_task(method) {
                self.runs.start_run(id, line.agent.as_deref().or(Some(class)), line.time, emit);
            }
            return;
        };
        let Some(run) = self.runs.run_of(parent).map(str::to_owned) else {
            self.runs.tracker().counts.unmatched += 1;
            return;
        };
        let is_inside_tool = self.runs.span_mut(parent).is_some_and(|span| span.kind == SpanKind::Tool);
        let (kind, name) = if method == "call_tool" || (is_tool(class, method) && !is_inside_tool) {
            (SpanKind::Tool, class)
        } else if parent == run {
            (SpanKind::Step, method)
        } else {
            (SpanKind::Wrapper, "")
        };
        let mut span = OpenSpan::new(kind, name, line.time);
        span.parent = (parent != run).then(|| parent.to_owned());
        self.runs.start_span(&run, id, span, emit);
    }

    fn span_drop(&mut self, id: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        if self.runs.tracker().get(id).is_some() {
            self.runs.end_run(id, line.time, Some(line.failure()), emit);
            return Ok(());
        }
        let (class, method) = class_and_method(id);
        let parent = self.runs.span_mut(id).and_then(|span| span.parent.clone());
        self.end(id, line, Some(line.failure()), emit)?;
        // The agent's step around a tool catches its exception, and exits.
        if let Some(step) = parent.filter(|_| is_tool(class, method))
            && self.runs.span_mut(&step).is_some_and(|span| span.kind == SpanKind::Tool)
        {
            self.end(&step, line, Some(line.failure()), emit)?;
        }
        Ok(())
    }

    /// Ends a span, if it is open: the event of its end may have come before.
    fn end(
        &mut self,
        id: &str,
        line: &Line<'_>,
        error: Option<String>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        match self.runs.span_mut(id) {
            Some(_) => self.runs.end_span(id, line.time, SpanEnd { error, ..SpanEnd::default() }, emit),
            None => Ok(()),
        }
    }

    fn event(
        &mut self,
        id: &str,
        class: &str,
        line: &Line<'_>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let mut limiter = StringLimiter::default();
        match class {
            "LLMChatStartEvent" | "LLMCompletionStartEvent" => {
                if let Some(span) = self.runs.span_mut(id) {
                    (span.kind, span.model) = (SpanKind::Model, line.model(&mut limiter));
                }
            }
            "LLMChatInProgressEvent" | "LLMCompletionInProgressEvent" => {
                if let Some(span) = self.runs.span_mut(id) {
                    span.first_token.get_or_insert(line.time);
                }
            }
            "LLMChatEndEvent" | "LLMCompletionEndEvent" if self.runs.span_mut(id).is_some() => {
                let mut end = line.model_end(&mut limiter);
                end.cost_usd = self.costs.map(|costs| costs.of(end.input_tokens, end.output_tokens));
                self.runs.end_span(id, line.time, end, emit)?;
            }
            "step.output" | "SpanDropEvent" => {
                let Some(input) = line.tool_input(&mut limiter) else { return Ok(()) };
                // The event is of the agent's step, or of the tool inside.
                let parent = self.runs.span_mut(id).and_then(|span| span.parent.clone());
                for id in [Some(id.to_owned()), parent].into_iter().flatten() {
                    if let Some(span) = self.runs.span_mut(&id).filter(|span| span.kind == SpanKind::Tool) {
                        span.name.clone_from(&input.name);
                        (span.arguments_hash, span.operation_id) = (input.arguments_hash.clone(), input.id.clone());
                    }
                }
            }
            _ => {}
        }
        self.runs.tracker().counts.shortened += limiter.shortened;
        Ok(())
    }
}

/// Returns class and method of the id of a span, such as `FunctionAgent.run-812a0c32-…`.
fn class_and_method(id: &str) -> (&str, &str) {
    let (class, rest) = id.split_once('.').unwrap_or((id, ""));
    (class, rest.split_once('-').map_or(rest, |(method, _)| method))
}

/// Returns whether a span without a parent is a task.
fn is_task(method: &str) -> bool {
    let method = method.trim_start_matches('a').trim_start_matches("stream_");
    matches!(method, "run" | "query" | "chat" | "complete" | "predict")
}

fn is_tool(class: &str, method: &str) -> bool {
    class.ends_with("Tool") && matches!(method, "call" | "acall" | "__call__")
}

impl SpanAdapter for LlamaIndexAdapter {
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
        match (&*line.kind, line.id.as_deref()) {
            ("span_enter", Some(id)) => self.span_enter(id, &line, emit),
            ("span_exit", Some(id)) if self.runs.tracker().get(id).is_some() => {
                self.runs.end_run(id, line.time, None, emit);
            }
            // A streamed model call goes on after its span has exited, until the event of its end.
            ("span_exit", Some(id)) if self.runs.span_mut(id).is_some_and(|span| span.kind == SpanKind::Model) => {}
            ("span_exit", Some(id)) => self.end(id, &line, None, emit)?,
            ("span_drop", Some(id)) => self.span_drop(id, &line, emit)?,
            ("event", _) => {
                if let (Some(id), Some(class)) = (line.span_id.as_deref(), line.class_name.as_deref()) {
                    self.event(id, class, &line, emit)?;
                }
            }
            // Duplicate of an exception that dropped spans already reported.
            ("app", _) => {}
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
        let (mut adapter, mut events) = (LlamaIndexAdapter::default(), Vec::new());
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event.event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event.event));
        events
    }

    const ENTER: &str = r#"{"kind":"span_enter","time":1,"id":"FunctionAgent.run-1","parent":null}"#;

    #[test]
    fn a_streamed_model_call_ends_with_its_event() {
        let events = read(&[
            ENTER,
            r#"{"kind":"span_enter","time":2,"id":"OpenAI.astream_chat-2","parent":"FunctionAgent.run-1"}"#,
            r#"{"kind":"event","time":2,"class_name":"LLMChatStartEvent","span_id":"OpenAI.astream_chat-2","model_dict":{"model":"gpt-5"}}"#,
            r#"{"kind":"span_exit","time":3,"id":"OpenAI.astream_chat-2"}"#,
            r#"{"kind":"event","time":4,"class_name":"LLMChatInProgressEvent","span_id":"OpenAI.astream_chat-2"}"#,
            r#"{"kind":"event","time":6,"class_name":"LLMChatEndEvent","span_id":"OpenAI.astream_chat-2","response":{"raw":{"usage":{"input_tokens":5,"output_tokens":2}}}}"#,
            r#"{"kind":"span_exit","time":7,"id":"FunctionAgent.run-1"}"#,
        ]);
        let [_, Event::LlmCall(call), _] = &events[..] else { panic!("{events:?}") };
        assert_eq!((call.model.as_deref(), call.input_tokens, call.output_tokens), (Some("gpt-5"), 5, 2));
        assert_eq!((call.duration_ms, call.first_token_ms), (Some(4000.0), Some(2000.0)));
    }

    #[test]
    fn building_an_index_is_no_task() {
        assert!(
            read(&[r#"{"kind":"span_enter","time":1,"id":"SentenceSplitter.__call__-1","parent":null}"#]).is_empty()
        );
    }

    #[test]
    fn a_tool_call_has_the_name_and_arguments_of_its_step() {
        let step = |number: u32, summary: &str| {
            let id = format!("BaseWorkflowAgent.call_tool-{number}");
            [
                format!(r#"{{"kind":"span_enter","time":2,"id":"{id}","parent":"FunctionAgent.run-1"}}"#),
                format!(
                    r#"{{"kind":"event","time":3,"class_name":"step.output","span_id":"{id}","tags":{{"llamaindex.step.input_summary":"{summary}"}}}}"#
                ),
                format!(r#"{{"kind":"span_exit","time":3,"id":"{id}"}}"#),
            ]
        };
        let whole = "ToolCall(tool_name='search', tool_kwargs={'q': 'a'}, tool_id='call_1')";
        let lines: Vec<String> =
            [step(1, whole), step(2, whole), step(3, "ToolCall(tool_name='search', tool_kwargs={'q': 'aaa...")]
                .concat();
        let lines: Vec<&str> = std::iter::once(ENTER).chain(lines.iter().map(String::as_str)).collect();
        let calls: Vec<_> = read(&lines)
            .into_iter()
            .filter_map(|event| if let Event::ToolCall(call) = event { Some(call) } else { None })
            .collect();
        assert!(calls.iter().all(|call| call.tool == "search") && calls.len() == 3);
        assert_eq!((&calls[0].arguments_hash, &calls[2].arguments_hash), (&calls[1].arguments_hash, &None));
        assert_eq!(calls[0].operation_id.as_deref(), Some("call_1"));
    }
}
