use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sre_core::adapter::{
    Adapter, AdapterError, AdapterSnapshot, AdapterStats, IngestLimits, IngestReport, OpenRun, Recorder, RunLimits,
    RunOutcome, RunTracker,
};
use sre_core::event::{Handoff, LlmCall, PolicyCheck, StepFinished, StringLimiter, ToolCall};
use sre_core::{AgentEvent, Event, StateError, StateReader, StateWriter, Timestamp, arguments_hash};

use crate::manual::AgentRun;
use crate::wire::{Line, SpanData};

/// Reads the lines that a `TracingProcessor` forwards, and creates the same events for manual recording.
#[derive(Debug)]
pub struct OpenAiAgentsAdapter {
    traces: RunTracker<Trace>,
    recorder: Recorder,
}

/// A trace that has not ended.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trace {
    outcome: RunOutcome,
    handoffs: u32,
    /// The spans that have started.
    spans: BTreeMap<String, StartedSpan>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StartedSpan {
    parent: Option<String>,
    /// Whether it is a tool. The agent may recover from any failure inside a tool.
    is_tool: bool,
    /// Whether it becomes an event when it ends.
    is_event: bool,
}

/// Maximum number of spans, and of marks of their ends, remembered per trace: as parents of later ones, and to recognise ends
/// that are sent twice.
const MAX_SPANS: usize = 16_384;

impl OpenAiAgentsAdapter {
    /// Creates an adapter with the given limits. Events recorded manually go to `recorder`.
    pub fn new(limits: RunLimits, recorder: Recorder) -> Self {
        Self { traces: RunTracker::new(limits), recorder }
    }

    /// Starts a run of `agent`. Its events are recorded through the returned handle.
    pub fn on_run_start(&self, agent: &str) -> AgentRun {
        AgentRun(self.recorder.start(agent))
    }

    /// Returns the totals of the manually recorded runs.
    pub fn snapshot(&self) -> AdapterSnapshot {
        self.recorder.snapshot()
    }

    /// Resets the totals.
    pub fn clear(&self) {
        self.recorder.clear();
    }

    fn trace_start(&mut self, id: String, workflow: Option<String>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        if self.traces.get(&id).is_some_and(|run| run.started == time) {
            self.traces.counts.repeated += 1;
            return;
        }
        let agent = workflow.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
        let run = OpenRun::native(agent, &id, time, Trace::default());
        let started = run.started(workflow);
        if let Some((at, displaced)) = self.traces.open(&id, run) {
            emit(displaced.incomplete(at));
        }
        emit(started);
    }

    fn span_start(&mut self, line: Line<'_>, emit: &mut dyn FnMut(AgentEvent)) {
        let run = line.trace_id.as_deref().and_then(|id| self.traces.get_mut(id));
        match (run, line.id) {
            (Some(run), Some(id)) if run.state.spans.len() < MAX_SPANS => {
                let is_tool = line.span_data.as_ref().is_some_and(|data| data.kind == "function");
                let is_event = line.span_data.as_ref().is_some_and(SpanData::is_event);
                let parent_bytes = line.parent_id.as_ref().map_or(0, String::len);
                // The span, and the mark of its end.
                let bytes = 2 * (size_of::<StartedSpan>() + size_of::<String>() + id.len()) + parent_bytes;
                if run.state.spans.insert(id, StartedSpan { parent: line.parent_id, is_tool, is_event }).is_some() {
                    return;
                }
                let trace = line.trace_id.unwrap_or_default();
                for (at, displaced) in self.traces.grow(&trace, bytes.cast_signed()) {
                    emit(displaced.incomplete(at));
                }
            }
            _ => self.traces.counts.unmatched += 1,
        }
    }

    fn span_end(&mut self, line: Line<'_>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        let mut error = line.error.as_ref().map(crate::wire::SpanError::text);
        let mut limiter = StringLimiter::default();
        limiter.texts(&mut error);
        self.traces.counts.shortened += limiter.shortened;
        let Some(run) = line.trace_id.as_deref().and_then(|id| self.traces.get_mut(id)) else {
            self.traces.counts.unmatched += 1;
            return;
        };
        let Some(data) = line.span_data else {
            self.traces.counts.unknown += 1;
            return;
        };
        let ended = line.ended_at.unwrap_or(time);
        let duration_ms = line.started_at.map(|started| ended.millis_since(started));
        if !run.state.end(line.id.as_deref().unwrap_or_default()) {
            self.traces.counts.repeated += 1;
            return;
        }
        // The agent may recover from any failure inside a tool, including an agent used as a tool.
        let inside_tool = run.state.is_inside_tool(line.parent_id.as_deref());
        let kind = data.kind.clone();
        if kind == "agent"
            && !inside_tool
            && let Some(error) = &error
        {
            run.state.outcome.fail(error.clone());
        }
        if kind == "guardrail" && data.triggered && !inside_tool {
            run.state.outcome.stop(data.name.as_deref().unwrap_or_default());
        }
        if matches!(&*kind, "generation" | "response") && !inside_tool {
            run.state.outcome.model_call(error.as_deref());
        }
        let Some(event) = event_of(data, error, duration_ms, &mut run.state.handoffs) else { return };
        let parent = run.state.reported_parent(line.parent_id.as_deref());
        emit(run.native_event(ended, &line.id.unwrap_or_default(), parent.as_deref(), event));
    }
}

/// Returns the event of a span, or `None` for wrappers that only repeat the spans inside them.
fn event_of(data: SpanData<'_>, error: Option<String>, duration_ms: Option<f64>, handoffs: &mut u32) -> Option<Event> {
    let step = |name: String, kind: &str, error| {
        let mut step = StepFinished::new(name, kind).with_error(error);
        step.duration_ms = duration_ms;
        Some(step.into())
    };
    match &*data.kind {
        "generation" | "response" => {
            let usage = data.usage.unwrap_or_default();
            let mut call = LlmCall::new(data.model).with_error(error);
            usage.set_tokens_of(&mut call);
            call.duration_ms = duration_ms;
            Some(call.into())
        }
        "function" => {
            let mut call = ToolCall::new(data.name.unwrap_or_default()).with_error(error);
            call.arguments_hash = data.input.as_deref().map(arguments_hash);
            call.duration_ms = duration_ms;
            Some(call.into())
        }
        "handoff" => {
            *handoffs = Handoff::MAX_DEPTH.min(*handoffs + 1);
            let mut handoff = Handoff::new(data.from_agent.unwrap_or_default(), data.to_agent.unwrap_or_default());
            handoff.depth = *handoffs;
            Some(handoff.into())
        }
        "guardrail" => Some(PolicyCheck::new(data.name.unwrap_or_default(), !data.triggered).into()),
        "custom" => {
            let custom = data.data.unwrap_or_default();
            match (custom.sdk_span_type.as_deref(), custom.turn) {
                (Some("turn"), turn) => step(format!("turn {}", turn.unwrap_or(0)), "turn", error),
                (Some(_), _) => None,
                (None, _) => step(data.name.unwrap_or_default(), "custom", error),
            }
        }
        _ => None,
    }
}

impl Trace {
    /// Marks a span as ended. Returns false if it was before: then its end was sent twice.
    fn end(&mut self, id: &str) -> bool {
        // The form of a span is that of saved states, so the mark is an entry of its own.
        let mark = format!("{id}/ended");
        if self.spans.contains_key(&mark) {
            return false;
        }
        if self.spans.contains_key(id) {
            self.spans.insert(mark, StartedSpan { parent: None, is_tool: false, is_event: false });
        }
        true
    }

    /// Returns the span `id` and those around it, innermost first. At most 256, because the spans of invalid input may
    /// be each other's parents.
    fn enclosing<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a StartedSpan)> {
        let entry = |id: &'a str| Some((id, self.spans.get(id)?));
        std::iter::successors(id.and_then(entry), move |(_, span)| span.parent.as_deref().and_then(entry)).take(256)
    }

    fn is_inside_tool(&self, parent: Option<&str>) -> bool {
        self.enclosing(parent).any(|(_, span)| span.is_tool)
    }

    /// Returns the nearest enclosing span that becomes an event, or `None` if that is the trace itself.
    fn reported_parent(&self, parent: Option<&str>) -> Option<String> {
        self.enclosing(parent).find(|(_, span)| span.is_event).map(|(id, _)| id.to_owned())
    }
}

impl Default for OpenAiAgentsAdapter {
    fn default() -> Self {
        Self::new(RunLimits::default(), Recorder::default())
    }
}

impl Adapter for OpenAiAgentsAdapter {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        let mut line: Line<'_> = serde_json::from_slice(record)?;
        let Some(time) = line.time.or(line.ended_at).or(line.started_at) else {
            return Err(AdapterError::Malformed(
                "found no `time`, `ended_at` or `started_at`, expected one".to_owned(),
            ));
        };
        if let (Some(started), Some(ended)) = (line.started_at, line.ended_at)
            && ended < started
        {
            let message = format!("`ended_at`: found {ended}, expected a time not before `started_at`, {started}");
            return Err(AdapterError::Malformed(message));
        }
        limits.check([line.time, line.started_at, line.ended_at].into_iter().flatten())?;
        if let Some(usage) = line.span_data.as_ref().and_then(|data| data.usage.as_ref()) {
            usage.check()?;
        }
        let mut limiter = StringLimiter::default();
        line.limit_strings(&mut limiter);
        self.traces.counts.shortened += limiter.shortened;
        if self.traces.advance(time, limits) {
            self.expire(time, emit);
        }
        match (&*line.event, &line.id) {
            ("trace_start", Some(_)) => self.trace_start(line.id.unwrap_or_default(), line.workflow_name, time, emit),
            ("trace_end", Some(id)) => {
                if let Some(mut run) = self.traces.end(id) {
                    let error = std::mem::take(&mut run.state.outcome).error();
                    emit(run.finished(time, error));
                }
            }
            ("span_start", Some(_)) => self.span_start(line, emit),
            ("span_end", Some(_)) => self.span_end(line, time, emit),
            _ => self.traces.counts.unknown += 1,
        }
        Ok(IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.traces.expire(now).into_iter().for_each(|(deadline, run)| emit(run.incomplete(deadline)));
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.traces.drain().into_iter().for_each(|(end, run)| emit(run.incomplete(end)));
    }

    fn save(&self, state: &mut StateWriter) {
        self.traces.save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.traces.restore(state)
    }

    fn stats(&self) -> AdapterStats {
        self.traces.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_spans_are_bounded_in_bytes_over_all_traces() {
        let limits = RunLimits { max_open_bytes: 100_000, ..Default::default() };
        let mut adapter = OpenAiAgentsAdapter::new(limits, Recorder::default());
        let mut incomplete = 0;
        let mut read = |line: String| {
            adapter.ingest(line.as_bytes(), &mut |event| incomplete += u64::from(event.is_incomplete())).unwrap();
        };
        for trace in 0..100 {
            read(format!(r#"{{"event":"trace_start","time":{trace},"id":"t{trace}","workflow_name":"support"}}"#));
            for span in 0..10 {
                let id = format!("{}-{trace}-{span}", "x".repeat(1_000));
                read(format!(r#"{{"event":"span_start","time":{trace},"id":"{id}","trace_id":"t{trace}"}}"#));
            }
        }
        let stats = adapter.stats();
        assert!((10..50).contains(&stats.open_runs), "{stats:?}");
        assert_eq!((stats.evicted_runs, stats.shortened), (incomplete, 1_000));
        assert_eq!(stats.open_runs as u64 + incomplete, 100);
    }

    #[test]
    fn a_call_with_more_tokens_than_can_be_is_rejected() {
        let (mut adapter, mut events) = (OpenAiAgentsAdapter::default(), Vec::new());
        let mut ingest = |line: &str| adapter.ingest(line.as_bytes(), &mut |event| events.push(event));
        ingest(r#"{"event":"trace_start","id":"t","time":1}"#).unwrap();
        let end = |tokens: u64| {
            format!(
                r#"{{"event":"span_end","id":"s","trace_id":"t","time":2,"span_data":{{"type":"generation","usage":{{"input_tokens":{tokens}}}}}}}"#
            )
        };
        let error = ingest(&end(1_000_000_001)).unwrap_err().to_string();
        assert!(error.contains("`input_tokens`: found 1000000001"), "{error}");
        ingest(&end(1_000_000_000)).unwrap();
        assert_eq!(events.len(), 2, "{events:?}");
    }
}
