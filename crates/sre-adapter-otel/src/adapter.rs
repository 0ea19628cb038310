use std::collections::BTreeSet;
use std::time::Duration;

use sre_core::adapter::{
    Adapter, AdapterError, AdapterStats, Body, BodyKind, Decoder, IngestLimits, IngestReport, OpenRun, RunLimits,
    RunTracker,
};
use sre_core::event::StringLimiter;
use sre_core::{AgentEvent, Event, SpanId, StateError, StateReader, StateWriter, Timestamp, TraceId};

use crate::converted::ConvertedSpans;
use crate::decode;
use crate::request::{Item, LoggedEvaluation, Request};
use crate::span::Span;
use crate::span_header::SpanHeader;
use crate::trace::{self, Trace};

/// Reads OTLP export requests: traces, and evaluations in logs.
#[derive(Debug)]
pub struct OtelAdapter {
    /// Traces already converted are remembered with their agents, for spans that arrive later.
    traces: RunTracker<Trace>,
    /// Traces whose root has arrived, by the time at which they are converted.
    settling: BTreeSet<(Timestamp, String)>,
    converted: ConvertedSpans,
}

/// How long to wait for the rest of a trace after its root: in a live service, after the root has arrived.
const SETTLE: Duration = Duration::from_secs(2);
/// Maximum number of spans held per trace; further ones are counted as unmatched.
const MAX_SPANS: usize = 20_000;

impl OtelAdapter {
    /// Creates an adapter with the given limits.
    pub fn new(limits: RunLimits) -> Self {
        Self { traces: RunTracker::new(limits), settling: BTreeSet::new(), converted: ConvertedSpans::default() }
    }

    fn ingest_request(
        &mut self,
        mut request: Request,
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> IngestReport {
        request.drop_after(limits.not_after);
        let mut report = IngestReport::default();
        (report.accepted, report.unused) = (request.items.len() as u64, request.unknown);
        if request.rejected > 0 {
            report.reject(request.rejected, request.rejection());
        }
        self.traces.counts.rejected += request.rejected;
        self.traces.counts.unknown += request.unknown;
        let mut limiter = StringLimiter::default();
        limiter.names(&mut request.services);
        self.traces.counts.shortened += limiter.shortened;
        for item in request.items {
            match item {
                Item::Span { trace, span, service } => {
                    let service = service.and_then(|number| request.services.get(number as usize));
                    self.add(trace, span, service.map(String::as_str), limits, emit);
                }
                Item::Evaluation(evaluation) => self.evaluate(*evaluation, limits, emit),
            }
        }
        if limits.arrived.is_none() {
            self.expire(self.traces.latest(), emit);
        }
        report
    }

    fn add(
        &mut self,
        id: TraceId,
        mut span: Span,
        service: Option<&str>,
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) {
        self.traces.advance(span.end, limits);
        if self.converted.contains(id, span.id) {
            self.traces.counts.repeated += 1;
            return;
        }
        let mut limiter = StringLimiter::default();
        span.limit_strings(&mut limiter);
        self.traces.counts.shortened += limiter.shortened;
        let events = usize::from(span.event.is_some()) + span.evaluations.len();
        let mut bytes = size_of::<Span>() + size_of::<SpanHeader>() + events * size_of::<Event>() + limiter.bytes;
        let key = id.to_string();
        let is_recording = limits.arrived.is_none();
        let is_over =
            |run: &mut OpenRun<Trace>| is_recording && run.state.settles_at.is_some_and(|at| at <= span.start);
        if self.traces.get_mut(&key).is_some_and(is_over)
            && let Some(run) = self.traces.close(&key)
        {
            self.emit(run.state, span.start, emit);
        }
        if self.traces.get_mut(&key).is_none() {
            let follows = self.traces.remembered(&key).map(|run| run.agent.clone());
            let state = Trace::new(id, service.map(str::to_owned), follows);
            // Until its agent is known, what sent it counts as the agent.
            let run = OpenRun::new(service.unwrap_or_default(), key.clone(), span.start, state);
            if let Some((at, displaced)) = self.traces.open(&key, run) {
                self.emit(displaced.state, at, emit);
            }
        }
        let Some(run) = self.traces.get_mut(&key) else { return };
        let state = &mut run.state;
        if state.spans.len() >= MAX_SPANS {
            self.traces.counts.unmatched += 1;
            return;
        }
        state.latest = state.latest.max(span.end);
        // What comes after its trace was converted is late, and may have no root of its own.
        let is_late = limits.arrived.is_some() && state.follows.is_some();
        if span.is_root() || is_late {
            let before = state.settles_at;
            let at = limits.arrived.unwrap_or(span.end).saturating_add(SETTLE).max(before.unwrap_or_default());
            state.settles_at = Some(at);
            before.map(|before| self.settling.remove(&(before, key.clone())));
            self.settling.insert((at, key.clone()));
        }
        if let Some(service) = service {
            bytes += state.set_service(&mut span, service);
        }
        state.spans.push(span);
        for (at, displaced) in self.traces.grow(&key, bytes.cast_signed()) {
            self.emit(displaced.state, at, emit);
        }
    }

    fn evaluate(&mut self, evaluation: LoggedEvaluation, limits: &IngestLimits, emit: &mut dyn FnMut(AgentEvent)) {
        let LoggedEvaluation { time, trace, span, mut agent, mut event } = evaluation;
        let mut limiter = StringLimiter::default();
        limiter.names(&mut agent);
        event.limit_strings(&mut limiter);
        self.traces.counts.shortened += limiter.shortened;
        self.traces.advance(time, limits);
        let task = trace.map(|id| id.to_string());
        let of_trace = task.as_ref().and_then(|key| self.traces.remembered(key)).map(|run| run.agent.clone());
        let mut event = AgentEvent::new(time, of_trace.or(agent).unwrap_or_else(|| "default".to_owned()), event);
        (event.task, event.trace_id, event.span_id) = (task, trace, span);
        emit(event);
    }

    fn settle(&mut self, now: Option<Timestamp>, emit: &mut dyn FnMut(AgentEvent)) {
        while let Some((at, _)) = self.settling.first() {
            if now.is_some_and(|now| *at > now) {
                return;
            }
            let Some((at, key)) = self.settling.pop_first() else { return };
            if let Some(OpenRun { state, .. }) = self.traces.get_mut(&key)
                && now.is_some()
                && !state.is_complete(|span| self.converted.contains(state.id, span))
            {
                // The root of some spans is still missing.
                state.settles_at = None;
            } else if let Some(run) = self.traces.close(&key) {
                self.emit(run.state, at, emit);
            }
        }
    }

    fn emit(&mut self, mut state: Trace, at: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.traces.counts.repeated += state.drop_repeated();
        let (id, key, started) = (state.id, state.id.to_string(), state.latest);
        let mut agent = state.follows.clone();
        let spans: Vec<SpanId> = state.spans.iter().map(|span| span.id).collect();
        // The trace may be evicted before that time.
        state.settles_at.map(|at| self.settling.remove(&(at, key.clone())));
        trace::emit(state, at, &mut |event| {
            if !matches!(event.event, Event::SpanFinished(_)) {
                agent.get_or_insert_with(|| event.agent.clone());
            }
            emit(event);
        });
        let Some(agent) = agent else {
            // No span has a known dialect, and the root never arrived.
            self.traces.counts.unmatched += spans.len() as u64;
            return;
        };
        self.traces.remember(&key, OpenRun::new(agent, key.clone(), started, ()));
        self.converted.add(id, spans);
    }
}

impl Default for OtelAdapter {
    fn default() -> Self {
        Self::new(RunLimits::default())
    }
}

impl Adapter for OtelAdapter {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        if record.is_empty() {
            return Err(AdapterError::Malformed("found an empty record, expected an OTLP export request".to_owned()));
        }
        Ok(self.ingest_request(decode::read(record, BodyKind::Traces)?, limits, emit))
    }

    fn ingest_body(
        &mut self,
        mut body: Body,
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        let request = match (body.take_decoded(), body.kind) {
            (Some(request), _) => request,
            (None, BodyKind::Lines) => return Ok(self.ingest_lines(&body.bytes, limits, emit)),
            (None, BodyKind::Decoded) => Request::restore(&body.bytes)?,
            (None, kind) => decode::read(&body.bytes, kind)?,
        };
        Ok(self.ingest_request(request, limits, emit))
    }

    fn decoder(&self) -> Option<Decoder> {
        Some(decode::decode)
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle(Some(now), emit);
        for (deadline, run) in self.traces.expire(now) {
            self.emit(run.state, deadline, emit);
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.settle(None, emit);
        let latest = self.traces.latest();
        for (_, run) in self.traces.drain() {
            self.emit(run.state, latest, emit);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.traces.save(state);
        state.section("converted", |state| self.converted.save(state));
        state.section("headers", |state| {
            for (key, run) in self.traces.iter() {
                let headers: Vec<_> = run.state.spans.iter().map(|span| &span.header).collect();
                state.put(&(key, &run.state.services, headers));
            }
        });
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.traces.restore(state)?;
        let settles = |(key, run): (&str, &OpenRun<Trace>)| Some((run.state.settles_at?, key.to_owned()));
        self.settling = self.traces.iter().filter_map(settles).collect();
        while !state.is_empty() {
            // Version 0.1.0 has saved neither.
            match state.section()? {
                ("converted", mut state) => self.converted.restore(&mut state)?,
                ("headers", mut state) => {
                    while !state.is_empty() {
                        let (key, services, headers): (String, _, Vec<Option<Box<SpanHeader>>>) = state.take()?;
                        if let Some(run) = self.traces.get_mut(&key) {
                            run.state.services = services;
                            run.state.spans.iter_mut().zip(headers).for_each(|(span, header)| span.header = header);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn stats(&self) -> AdapterStats {
        self.traces.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_while_the_time_of_the_input_stands_still() {
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
        assert_eq!((adapter.stats().open_runs, adapter.settling.len()), (100, 100));
    }

    #[test]
    fn spans_that_wait_are_bounded_in_bytes_over_all_traces() {
        let mut adapter = OtelAdapter::new(RunLimits { max_open_bytes: 1 << 20, ..RunLimits::default() });
        let mut tasks = 0;
        for number in 1..=100_u32 {
            let spans: Vec<String> = (1..=100)
                .map(|id| {
                    format!(
                        r#"{{"traceId":"{number:032x}","spanId":"{id:016x}","parentSpanId":"00000000000000ff","name":"n",
                        "startTimeUnixNano":"{0}","endTimeUnixNano":"{0}","attributes":[
                        {{"key":"gen_ai.operation.name","value":{{"stringValue":"chat"}}}},
                        {{"key":"gen_ai.request.model","value":{{"stringValue":"{1}"}}}}]}}"#,
                        1_790_000_000_000_000_000_u64 + u64::from(number),
                        "m".repeat(50_000)
                    )
                })
                .collect();
            let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
            let mut count = |event: AgentEvent| tasks += u64::from(event.is_incomplete());
            adapter.ingest(body.as_bytes(), &mut count).unwrap();
        }
        let stats = adapter.stats();
        assert!((2..30).contains(&stats.open_runs), "{stats:?}");
        assert_eq!((stats.evicted_runs, stats.evicted_runs + stats.open_runs as u64), (tasks, 100));
        assert_eq!(stats.shortened, 10_000);
        let mut state = StateWriter::default();
        adapter.save(&mut state);
        // And the ids of the spans that were converted.
        assert!(state.finish().unwrap().len() < (1 << 20) + 10_000 * 20);
    }
}
