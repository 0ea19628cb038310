use std::collections::BTreeSet;
use std::time::Duration;

use sre_core::{
    Adapter, AdapterError, AdapterStats, AgentEvent, OpenRun, OpenRuns, RunLimits, StateError, StateReader,
    StateWriter, Timestamp, TraceId,
};

use crate::request::{Evaluation, Item, Request};
use crate::span::Span;
use crate::trace::{self, Trace};

/// Reads OTLP export requests: traces, and the evaluations among logs.
#[derive(Debug)]
pub struct OtelAdapter {
    traces: OpenRuns<Trace>,
    /// Traces whose root has come, by the moment at which they are read.
    settling: BTreeSet<(Timestamp, String)>,
    /// Traces that were read, and their agents, for what still comes of them.
    read: OpenRuns<()>,
    latest: Timestamp,
    unknown: u64,
    unmatched: u64,
    rejected: u64,
    /// Spans that came a second time.
    repeated: u64,
}

/// How long after its root a trace is waited for.
const SETTLE: Duration = Duration::from_secs(2);
/// At most so many spans of one trace are held; more are counted as unmatched.
const MAX_SPANS: usize = 20_000;

impl OtelAdapter {
    /// An adapter that holds as much as `limits` say.
    pub fn new(limits: RunLimits) -> Self {
        Self {
            traces: OpenRuns::new(limits),
            settling: BTreeSet::new(),
            read: OpenRuns::new(limits),
            latest: Timestamp::default(),
            unknown: 0,
            unmatched: 0,
            rejected: 0,
            repeated: 0,
        }
    }

    /// Reads the protobuf body of an export request of logs; [`Adapter::ingest`] takes one of traces.
    pub fn ingest_logs(&mut self, body: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        self.take(Request::read_logs(body)?, emit);
        Ok(())
    }

    /// Takes in a request that was read before.
    pub fn take(&mut self, request: Request, emit: &mut dyn FnMut(AgentEvent)) {
        self.rejected += request.rejected;
        self.unknown += request.unknown;
        for item in request.items {
            match item {
                Item::Span { trace, span, service } => {
                    let service = service.and_then(|number| request.services.get(number as usize));
                    self.add(trace, span, service.map(String::as_str), emit);
                }
                Item::Evaluation(evaluation) => self.evaluate(evaluation, emit),
            }
        }
        self.expire(self.latest, emit);
    }

    fn add(&mut self, id: TraceId, span: Span, service: Option<&str>, emit: &mut dyn FnMut(AgentEvent)) {
        self.latest = self.latest.max(span.end);
        let key = id.to_string();
        let is_over = |run: &mut OpenRun<Trace>| run.state.settles_at.is_some_and(|at| at <= span.start);
        if self.traces.get_mut(&key).is_some_and(is_over)
            && let Some(run) = self.traces.close(&key)
        {
            self.emit(run.state, span.start, emit);
        }
        if self.traces.get_mut(&key).is_none() {
            let follows = self.read.get_mut(&key).map(|run| run.agent.clone());
            let state = Trace::new(id, service.map(str::to_owned), follows);
            let run = OpenRun::new(String::new(), key.clone(), span.start, state);
            if let Some((at, displaced)) = self.traces.open(&key, run) {
                self.emit(displaced.state, at, emit);
            }
        }
        let Some(run) = self.traces.get_mut(&key) else { return };
        let state = &mut run.state;
        if state.spans.len() >= MAX_SPANS {
            self.unmatched += 1;
            return;
        }
        state.latest = state.latest.max(span.end);
        if span.parent.is_none() {
            let before = state.settles_at;
            let at = span.end.saturating_add(SETTLE).max(before.unwrap_or_default());
            state.settles_at = Some(at);
            before.map(|before| self.settling.remove(&(before, key.clone())));
            self.settling.insert((at, key));
        }
        state.spans.push(span);
    }

    fn evaluate(&mut self, evaluation: Evaluation, emit: &mut dyn FnMut(AgentEvent)) {
        let Evaluation { time, trace, span, agent, event } = evaluation;
        self.latest = self.latest.max(time);
        let task = trace.map(|id| id.to_string());
        let of_trace = task.as_ref().and_then(|key| self.read.get_mut(key)).map(|run| run.agent.clone());
        let mut event = AgentEvent::new(time, of_trace.or(agent).unwrap_or_else(|| "default".to_owned()), event);
        (event.task, event.trace_id, event.span_id) = (task, trace, span);
        emit(event);
    }

    fn settle(&mut self, now: Option<Timestamp>, emit: &mut dyn FnMut(AgentEvent)) {
        while let Some((at, _)) = self.settling.first() {
            if now.is_some_and(|now| *at > now) {
                return;
            }
            if let Some((at, key)) = self.settling.pop_first()
                && let Some(run) = self.traces.close(&key)
            {
                self.emit(run.state, at, emit);
            }
        }
    }

    fn emit(&mut self, mut state: Trace, at: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.repeated += state.drop_repeated();
        let (key, started, spans) = (state.id.to_string(), state.latest, state.spans.len() as u64);
        // It may have been pushed out before its time.
        state.settles_at.map(|at| self.settling.remove(&(at, key.clone())));
        let mut agent = None;
        trace::emit(state, at, &mut |event| {
            agent.get_or_insert_with(|| event.agent.clone());
            emit(event);
        });
        let Some(agent) = agent else {
            // Nothing of it speaks of an agent, and its root never came.
            self.unmatched += spans;
            return;
        };
        // What is pushed out here is only no longer remembered.
        self.read.open(&key, OpenRun::new(agent, key.clone(), started, ()));
    }
}

impl Default for OtelAdapter {
    fn default() -> Self {
        Self::new(RunLimits::default())
    }
}

impl Adapter for OtelAdapter {
    fn ingest(&mut self, record: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        self.take(Request::read(record)?, emit);
        Ok(())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle(Some(now), emit);
        for (deadline, run) in self.traces.expire(now) {
            self.emit(run.state, deadline, emit);
        }
        self.read.expire(now);
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle(None, emit);
        for run in self.traces.drain() {
            self.emit(run.state, self.latest, emit);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.traces.save(state);
        self.read.save(state);
        state.put(&(self.latest, self.unknown, self.unmatched, self.rejected, self.repeated));
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.traces.restore(state)?;
        self.read.restore(state)?;
        (self.latest, self.unknown, self.unmatched, self.rejected, self.repeated) = state.take()?;
        let settles = |(key, run): (&str, &OpenRun<Trace>)| Some((run.state.settles_at?, key.to_owned()));
        self.settling = self.traces.iter().filter_map(settles).collect();
        Ok(())
    }

    fn stats(&self) -> AdapterStats {
        AdapterStats {
            latest: self.latest,
            open_runs: self.traces.len(),
            evicted_runs: self.traces.evicted(),
            unknown: self.unknown,
            unmatched: self.unmatched,
            rejected: self.rejected,
            repeated: self.repeated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_open_traces_where_time_stands_still() {
        let mut adapter = OtelAdapter::new(RunLimits { max_open_runs: 100, ..RunLimits::default() });
        for number in 0..1_000_u32 {
            let span = |id: u32| {
                format!(
                    r#"{{"traceId":"{number:032x}","spanId":"{id:016x}","name":"n","startTimeUnixNano":"1790000000000000000",
                    "endTimeUnixNano":"1790000001000000000"}}"#
                )
            };
            let (one, other) = (span(1), span(2));
            let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one},{other}]}}]}}]}}"#);
            adapter.ingest(body.as_bytes(), &mut |_| {}).unwrap();
        }
        assert_eq!((adapter.traces.len(), adapter.settling.len(), adapter.read.len()), (100, 100, 100));
    }
}
