use serde_json::value::RawValue;
use sre_core::adapter::{AdapterError, CurrentRun, IngestLimits, OpenSpan, SpanAdapter, SpanEnd, SpanKind};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, Timestamp, arguments_hash};

use crate::manual::KernelRun;
use crate::wire::Line;

sre_core::span_adapter! {
    /// Reads the lines of a function-invocation filter, and creates the same events for manual recording.
    pub struct SemanticKernelAdapter { current: CurrentRun }
    step_kind: "function",
}

impl SemanticKernelAdapter {
    /// Starts a run of a kernel. Its events are recorded through the returned handle.
    pub fn on_kernel_start(&self, kernel: &str) -> KernelRun {
        KernelRun(self.recorder.start(kernel))
    }

    /// Starts a model call: the kernel calls the model whenever no function runs.
    fn await_model(&mut self, run: &str, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        if self.runs.find_span(run, |_| true).is_none() {
            let id = format!("{run}/model-{}", time.as_nanos());
            self.runs.start_span(run, &id, OpenSpan::new(SpanKind::Model, "", time), emit);
        }
    }

    /// Ends the open span of a kind with that name, if there is one. The end of a function that has not started is unmatched.
    fn end(
        &mut self,
        run: &str,
        (kind, name): (SpanKind, &str),
        time: Timestamp,
        end: SpanEnd,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        match self.runs.find_span(run, |span| span.kind == kind && span.name == name) {
            Some(id) => self.runs.end_span(&id, time, end, emit),
            None => {
                self.runs.tracker().counts.unmatched += u64::from(kind == SpanKind::Tool);
                Ok(())
            }
        }
    }

    fn in_run(&mut self, run: &str, line: &Line<'_>, emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        let model = (SpanKind::Model, "");
        match &*line.event {
            "kernel_end" if line.success => {
                self.end(run, model, line.time, line.model_end(), emit)?;
                self.runs.end_run(run, line.time, None, emit);
            }
            // The model call that is open has failed.
            "kernel_end" => self.runs.end_run(run, line.time, Some(line.failure()), emit),
            "model_call" => self.end(run, model, line.time, line.model_end(), emit)?,
            "function_invoking" => {
                // The model has requested the function. Its tokens are not reported.
                self.end(run, model, line.time, SpanEnd::default(), emit)?;
                let mut span = OpenSpan::new(SpanKind::Tool, line.function(), line.time);
                span.arguments_hash = line.arguments.map(RawValue::get).map(arguments_hash);
                let id = format!("{run}/{}-{}", span.name, line.time.as_nanos());
                self.runs.start_span(run, &id, span, emit);
            }
            "function_invoked" => {
                self.end(run, (SpanKind::Tool, &line.function()), line.time, SpanEnd::default(), emit)?;
                self.await_model(run, line.time, emit);
            }
            "function_failed" => {
                let end = SpanEnd { error: Some(line.failure()), ..SpanEnd::default() };
                self.end(run, (SpanKind::Tool, &line.function()), line.time, end, emit)?;
                self.await_model(run, line.time, emit);
            }
            _ => self.runs.tracker().counts.unknown += 1,
        }
        Ok(())
    }
}

impl SpanAdapter for SemanticKernelAdapter {
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
        if line.event == "kernel_start" {
            let agent = line.agent.as_deref().or(line.kernel.as_deref());
            self.current.start(&mut self.runs, id, agent, line.time, emit);
        }
        let Some(run) = self.current.of(&mut self.runs, id) else {
            self.runs.tracker().counts.unmatched += 1;
            return Ok(());
        };
        match &*line.event {
            "kernel_start" => self.await_model(&run, line.time, emit),
            _ => self.in_run(&run, &line, emit)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{Adapter, Event};

    use super::*;

    fn read(lines: &[&str]) -> Vec<Event> {
        let (mut adapter, mut events) = (SemanticKernelAdapter::default(), Vec::new());
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event.event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event.event));
        events
    }

    #[test]
    fn model_calls_that_are_forwarded_have_their_tokens() {
        let events = read(&[
            r#"{"event":"kernel_start","time":1,"kernel":"k"}"#,
            r#"{"event":"model_call","time":2,"model":"gpt-5","usage":{"prompt_tokens":10,"completion_tokens":1}}"#,
            r#"{"event":"function_invoking","time":3,"plugin":"orders","function":"lookup","arguments":{"id":1}}"#,
            r#"{"event":"function_invoked","time":4,"plugin":"orders","function":"lookup"}"#,
            r#"{"event":"model_call","time":5,"model":"gpt-5","usage":{"prompt_tokens":20,"completion_tokens":2}}"#,
            r#"{"event":"kernel_end","time":6,"success":true,"usage":{"prompt_tokens":20,"completion_tokens":2}}"#,
        ]);
        let tokens: Vec<u64> = events
            .iter()
            .filter_map(|event| if let Event::LlmCall(call) = event { Some(call.input_tokens) } else { None })
            .collect();
        assert_eq!(tokens, [10, 20]);
        let tool =
            events.iter().find_map(|event| if let Event::ToolCall(call) = event { Some(call) } else { None }).unwrap();
        assert_eq!((tool.tool.as_str(), tool.arguments_hash.is_some()), ("orders-lookup", true));
    }
}
