use std::time::Duration;

use serde_json::value::RawValue;
use sre_core::adapter::{
    AdapterError, AdapterSnapshot, IngestLimits, OpenSpan, Recorder, RunLimits, SpanAdapter, SpanKind, SpanRuns,
};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, Timestamp, arguments_hash};

use crate::manual::WorkflowRun;
use crate::wire::{Data, Line};

/// Reads the payloads of a workflow's event stream, and creates the same events for manual recording.
#[derive(Debug)]
pub struct DifyAdapter {
    runs: SpanRuns,
    recorder: Recorder,
}

impl DifyAdapter {
    /// Creates an adapter with the given limits. Events recorded manually go to `recorder`.
    pub fn new(limits: RunLimits, recorder: Recorder) -> Self {
        Self { runs: SpanRuns::new(limits, "node"), recorder }
    }

    /// Starts a run of a workflow. Its events are recorded through the returned handle.
    pub fn on_workflow_start(&self, workflow: &str) -> WorkflowRun {
        WorkflowRun::new(self.recorder.start(workflow))
    }

    /// Returns the totals of the manually recorded runs.
    pub fn snapshot(&self) -> AdapterSnapshot {
        self.recorder.snapshot()
    }

    /// Resets the totals.
    pub fn clear(&self) {
        self.recorder.clear();
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

impl Default for DifyAdapter {
    fn default() -> Self {
        Self::new(RunLimits::default(), Recorder::default())
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
            "node_finished" => {
                let started = self.runs.span_mut(&data.id).map(|span| span.started);
                self.runs.end_span(&data.id, end_time(started, &data, time), data.end(), emit)?;
            }
            event if is_unused(event) => {}
            _ => self.runs.tracker().counts.unknown += 1,
        }
        Ok(())
    }

    fn runs(&self) -> &SpanRuns {
        &self.runs
    }

    fn runs_mut(&mut self) -> &mut SpanRuns {
        &mut self.runs
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
