use sre_core::adapter::{AdapterError, CurrentRun, IngestLimits, OpenSpan, SpanAdapter, SpanKind};
use sre_core::event::{Handoff, Message, StringLimiter};
use sre_core::{AgentEvent, Timestamp, arguments_hash};

use crate::manual::Conversation;
use crate::wire::Line;

sre_core::span_adapter! {
    /// Reads the messages and logs of AutoGen, and creates the same events for manual recording.
    pub struct AutoGenAdapter { current: CurrentRun }
    step_kind: "step",
}

impl AutoGenAdapter {
    /// Starts a conversation. Its events are recorded through the returned handle.
    pub fn on_conversation_start(&self, initiator: &str) -> Conversation {
        Conversation(self.recorder.start(initiator))
    }

    /// Starts a model call, unless one is open: AutoGen logs only the end of those that succeed.
    fn await_model(&mut self, run: &str, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        if self.open_model_call(run).is_none() {
            let id = format!("{run}/model-{}", time.as_nanos());
            self.runs.start_span(run, &id, OpenSpan::new(SpanKind::Model, "", time), emit);
        }
    }

    /// Returns whether a record was sent twice. Those of model calls have no ids, and a message does not start anything that could be
    /// open: the last of each is known by a span that becomes no event.
    fn is_repeated(&mut self, run: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) -> bool {
        let (last, name) = (format!("{run}/last-{}", line.kind), line.id.as_deref().unwrap_or_default());
        if self.runs.span_mut(&last).is_some_and(|last| last.started == line.time && last.name == name) {
            self.runs.tracker().counts.repeated += 1;
            return true;
        }
        self.runs.start_span(run, &last, OpenSpan::new(SpanKind::Wrapper, name, line.time), emit);
        false
    }

    fn open_model_call(&self, run: &str) -> Option<String> {
        self.runs.find_span(run, |span| span.kind == SpanKind::Model)
    }

    fn in_run(&mut self, run: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        let mut limiter = StringLimiter::default();
        match &*line.kind {
            "LLMCall" | "LLMStreamEnd" if self.is_repeated(run, line, emit) => {}
            "LLMCall" | "LLMStreamEnd" => {
                self.await_model(run, line.time, emit);
                let call = self.open_model_call(run).unwrap_or_default();
                self.runs.end_span(&call, line.time, line.model_end(&mut limiter), emit)?;
            }
            "ModelClientStreamingChunkEvent" => {
                let call = self.open_model_call(run);
                if let Some(span) = call.and_then(|call| self.runs.span_mut(&call)) {
                    span.first_token.get_or_insert(line.time);
                }
            }
            "ToolCallRequestEvent" => {
                for request in line.requests(&mut limiter) {
                    let mut span = OpenSpan::new(SpanKind::Tool, request.name, line.time);
                    span.arguments_hash = request.arguments.as_deref().map(arguments_hash);
                    self.runs.start_span(run, &format!("{run}/{}", request.id), span, emit);
                }
            }
            "ToolCallExecutionEvent" => {
                for execution in line.executions(&mut limiter) {
                    let id = format!("{run}/{}", execution.call_id);
                    self.runs.end_span(&id, line.time, execution.end(), emit)?;
                }
                self.await_model(run, line.time, emit);
            }
            kind if kind.ends_with("Message") && self.is_repeated(run, line, emit) => {}
            kind if kind.ends_with("Message") => {
                let source = line.source.as_deref().unwrap_or_default();
                let id = (line.id.as_deref().unwrap_or_default(), None);
                match &line.target {
                    Some(target) => self.runs.event(run, id, line.time, Handoff::new(source, target), emit)?,
                    None => self.runs.event(run, id, line.time, Message::new(source), emit)?,
                }
                self.await_model(run, line.time, emit);
            }
            // What the log repeats of the messages, and what has a meaning that no agent event has.
            "ToolCall" | "LLMStreamStart" => {}
            kind if kind.ends_with("Event") => {}
            _ => self.runs.tracker().counts.unknown += 1,
        }
        self.runs.tracker().counts.shortened += limiter.shortened;
        Ok(())
    }
}

impl SpanAdapter for AutoGenAdapter {
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
        let id = line.run_id.as_deref();
        if line.kind == "conversation_start" {
            let agent = line.agent.as_deref().or(line.initiator.as_deref());
            self.current.start(&mut self.runs, id, agent, line.time, emit);
            return Ok(());
        }
        let Some(run) = self.current.of(&mut self.runs, id) else {
            self.runs.tracker().counts.unmatched += 1;
            return Ok(());
        };
        match &*line.kind {
            "TaskResult" => {
                // After the last message, no model was called.
                if let Some(call) = self.open_model_call(&run) {
                    self.runs.discard_span(&call);
                }
                self.runs.end_run(&run, line.time, None, emit);
            }
            "raised" => self.runs.end_run(&run, line.time, Some(line.raised()), emit),
            _ => self.in_run(&run, &line, emit)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{Adapter, Event};

    use super::*;

    #[test]
    fn a_conversation_that_starts_ends_the_one_before_unless_they_have_ids() {
        let incomplete = |ids: [&str; 2]| {
            let (mut adapter, mut incomplete) = (AutoGenAdapter::default(), 0);
            for (time, id) in (1..).zip(ids) {
                let line = format!(r#"{{"type":"conversation_start","time":{time},"initiator":"a"{id}}}"#);
                adapter.ingest(line.as_bytes(), &mut |event| incomplete += u32::from(event.is_incomplete())).unwrap();
            }
            incomplete
        };
        assert_eq!(incomplete(["", ""]), 1);
        assert_eq!(incomplete([r#","run_id":"1""#, r#","run_id":"2""#]), 0);
    }

    #[test]
    fn a_handoff_is_one() {
        let (mut adapter, mut handoffs) = (AutoGenAdapter::default(), Vec::new());
        for line in [
            r#"{"type":"conversation_start","time":1,"initiator":"a"}"#,
            r#"{"type":"HandoffMessage","time":2,"source":"planner","target":"writer","content":"go"}"#,
        ] {
            let mut keep = |event: AgentEvent| {
                if let Event::Handoff(handoff) = event.event {
                    handoffs.push((handoff.from, handoff.to));
                }
            };
            adapter.ingest(line.as_bytes(), &mut keep).unwrap();
        }
        assert_eq!(handoffs, [("planner".to_owned(), "writer".to_owned())]);
    }
}
