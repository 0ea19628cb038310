use std::time::Duration;

use serde_json::value::RawValue;
use sre_core::adapter::{AdapterError, IngestLimits, OpenSpan, SpanAdapter, SpanKind};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, Timestamp, arguments_hash};

use crate::manual::WorkflowRun;
use crate::wire::{Data, Line};

sre_core::span_adapter! {
    /// Reads the payloads of a workflow's event stream, and creates the same events for manual recording.
    pub struct DifyAdapter {}
    step_kind: "node",
}

impl DifyAdapter {
    /// Starts a run of a workflow. Its events are recorded through the returned handle.
    pub fn on_workflow_start(&self, workflow: &str) -> WorkflowRun {
        WorkflowRun::new(self.recorder.start(workflow))
    }

    fn node_started(&mut self, run: &str, data: Data<'_>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        let kind = data.kind();
        let name = data.title.filter(|title| !title.is_empty()).unwrap_or(data.node_type);
        let mut span = OpenSpan::new(kind, name, time);
        if kind == SpanKind::Tool {
            span.arguments_hash = data.inputs.map(RawValue::get).map(arguments_hash);
        }
        self.runs.start_span(run, &data.id, span, emit);
    }
}

impl SpanAdapter for DifyAdapter {
    fn read(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let mut line: Line<'_> = serde_json::from_slice(record)?;
        let mut limiter = StringLimiter::default();
        line.limit_strings(&mut limiter);
        let mut data = line.data();
        data.limit_strings(&mut limiter);
        // A record without a time, such as a ping, does not end anything.
        let time = line.time.or(data.time()).unwrap_or(self.runs.stats().latest);
        self.runs.advance(time, limits, emit)?;
        self.runs.tracker().counts.shortened += limiter.shortened;
        let Some(run) = line.task_id.as_deref() else {
            self.runs.tracker().counts.unknown += u64::from(line.event != "ping");
            return Ok(());
        };
        match &*line.event {
            "workflow_started" => {
                self.runs.start_run(run, line.agent.as_deref().or(data.workflow_id.as_deref()), time, emit);
            }
            "workflow_finished" => {
                let started = self.runs.tracker().get(run).map(|open| open.started);
                self.runs.end_run(run, end_time(started, &data, time), data.failure(), emit);
            }
            "error" => {
                self.runs.end_run(run, time, Some(line.message.unwrap_or_else(|| "failed".to_owned())), emit);
            }
            "node_started" => self.node_started(run, data, time, emit),
            "node_retry" => {
                self.runs.retry_span(
                    &data.id,
                    data.retry_index.filter(|number| *number > 0),
                    time,
                    data.end(),
                    emit,
                )?;
            }
            "node_finished" => {
                // The elapsed time of a node that was retried includes the attempts before.
                let is_retried = self.runs.is_retried(&data.id);
                let started = self.runs.span_mut(&data.id).filter(|_| !is_retried).map(|span| span.started);
                self.runs.end_span(&data.id, end_time(started, &data, time), data.end(), emit)?;
            }
            event if is_unused(event) => {}
            _ => self.runs.tracker().counts.unknown += 1,
        }
        Ok(())
    }
}

/// Returns the end by the elapsed time, because Dify's own times are whole seconds.
fn end_time(started: Option<Timestamp>, data: &Data<'_>, time: Timestamp) -> Timestamp {
    let elapsed = data.elapsed_time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    started.zip(elapsed).map_or(time, |(started, elapsed)| started.saturating_add(elapsed))
}

/// Returns whether an event of the stream has a meaning that no agent event has: parts of an answer, or containers of nodes
/// that are reported themselves.
fn is_unused(event: &str) -> bool {
    matches!(event, "ping" | "message" | "message_end" | "message_file" | "message_replace" | "agent_log")
        || ["text_", "tts_", "iteration_", "loop_", "parallel_branch_"].iter().any(|prefix| event.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use sre_core::{Adapter, Event};

    use super::*;

    fn read(lines: &[&str]) -> Vec<Event> {
        let (mut adapter, mut events) = (DifyAdapter::default(), Vec::new());
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event.event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event.event));
        events
    }

    const STARTED: &str =
        r#"{"event":"workflow_started","task_id":"1","data":{"workflow_id":"w","created_at":1790000000}}"#;

    #[test]
    fn an_error_of_the_stream_ends_the_run() {
        let events =
            read(&[STARTED, r#"{"event":"error","task_id":"1","status":400,"code":"x","message":"no credits"}"#]);
        let [_, Event::TaskFinished(task)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((task.success, task.error.as_deref()), (false, Some("no credits")));
    }

    #[test]
    fn the_retries_of_a_node_are_attempts_of_one_operation() {
        let node = |event: &str, second: u32, more: &str| {
            format!(
                r#"{{"event":"{event}","time":{second},"task_id":"1","data":{{"id":"n","node_type":"llm","title":"A",{more}"created_at":1}}}}"#
            )
        };
        let retry = r#""status":"retry","error":"429","retry_index":1,"elapsed_time":1.0,"#;
        let events = read(&[
            STARTED,
            &node("node_started", 1_790_000_001, ""),
            &node("node_retry", 1_790_000_003, retry),
            &node("node_finished", 1_790_000_007, r#""status":"succeeded","elapsed_time":6.0,"#),
        ]);
        let calls: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::LlmCall(call) = event { Some(call) } else { None })
            .map(|call| (call.attempt, call.operation_id.as_deref(), call.error.as_deref(), call.duration_ms))
            .collect();
        let (failed, succeeded) =
            ((Some(1), Some("n"), Some("429"), Some(2_000.0)), (Some(2), Some("n"), None, Some(4_000.0)));
        assert_eq!(calls, [failed, succeeded]);
    }

    #[test]
    fn a_model_node_has_tokens_and_a_price_in_dollars_only() {
        let cost = |currency: &str| {
            let node = r#"{"event":"node_started","task_id":"1","data":{"id":"n","node_type":"llm","title":"A","created_at":1790000000}}"#;
            let end = format!(
                r#"{{"event":"node_finished","task_id":"1","data":{{"id":"n","node_type":"llm","status":"succeeded","elapsed_time":0.5,
                    "process_data":{{"model_name":"gpt-5","model_provider":"openai","usage":{{"prompt_tokens":7,"completion_tokens":2}}}},
                    "execution_metadata":{{"total_price":"0.01","currency":"{currency}"}},"finished_at":1790000001}}}}"#
            );
            let events = read(&[STARTED, node, &end]);
            let [_, Event::LlmCall(call), _] = &events[..] else { panic!("{events:?}") };
            assert_eq!((call.model.as_deref(), call.input_tokens, call.duration_ms), (Some("gpt-5"), 7, Some(500.0)));
            call.cost_usd.map(|cost| cost.to_string())
        };
        assert_eq!((cost("USD").as_deref(), cost("RMB")), (Some("0.01"), None));
    }
}
