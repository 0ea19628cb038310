use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    AdapterError, AdapterStats, IngestLimits, OpenRun, OpenSpan, OpenSpans, RunLimits, RunTracker, SpanEnd, SpanKind,
};
use crate::{AgentEvent, Event, StateError, StateReader, StateWriter, Timestamp};

/// The open runs of a framework that reports the start and the end of every call inside a run, each with an id.
///
/// A span becomes one event when it ends. Its parent is the nearest span around it that becomes an event too, or else the
/// run.
///
/// ```
/// use sre_core::adapter::{OpenSpan, RunLimits, SpanEnd, SpanKind, SpanRuns};
/// use sre_core::Timestamp;
/// let mut runs = SpanRuns::new(RunLimits::default(), "node");
/// let mut events = Vec::new();
/// let at = |second: i64| Timestamp::from_secs(1_790_000_000 + second);
/// runs.start_run("run", Some("support"), at(0), &mut |event| events.push(event));
/// runs.start_span("run", "call", OpenSpan::new(SpanKind::Tool, "search", at(1)), &mut |event| events.push(event));
/// runs.end_span("call", at(3), SpanEnd::default(), &mut |event| events.push(event)).unwrap();
/// runs.end_run("run", at(4), None, &mut |event| events.push(event));
/// assert_eq!(events[1].event.duration_ms(), Some(2_000.0));
/// ```
#[derive(Debug)]
pub struct SpanRuns {
    runs: RunTracker<OpenSpans>,
    /// The run of every open span.
    run_of: FxHashMap<String, String>,
    /// The attempt that is open, of every open span that was tried before.
    attempts: BTreeMap<String, u32>,
    step_kind: &'static str,
}

/// The part of the state with the attempts.
const ATTEMPTS: &str = "attempts";
/// Maximum number of open spans in one run; further ones are counted as unmatched.
const MAX_OPEN_SPANS: usize = 4_096;

impl SpanRuns {
    /// Creates an empty set. Steps get the kind `step_kind`, such as `node`.
    pub fn new(limits: RunLimits, step_kind: &'static str) -> Self {
        Self { runs: RunTracker::new(limits), run_of: FxHashMap::default(), attempts: BTreeMap::new(), step_kind }
    }

    /// Returns the runs, whose counts of unused records may be changed.
    pub fn tracker(&mut self) -> &mut RunTracker<OpenSpans> {
        &mut self.runs
    }

    /// Advances the time of the input to that of a record, and closes the runs that have timed out in a recording.
    ///
    /// Returns an error if the time is too late.
    pub fn advance(
        &mut self,
        time: Timestamp,
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        limits.check([time])?;
        if self.runs.advance(time, limits) {
            self.expire(time, emit);
        }
        Ok(())
    }

    /// Starts a run of an agent; `default` if the framework does not name it. A run with the same key is closed as incomplete,
    /// unless it has started at the same time: then the record was sent twice.
    pub fn start_run(&mut self, key: &str, agent: Option<&str>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        if self.runs.get(key).is_some_and(|run| run.started == time) {
            self.runs.counts.repeated += 1;
            return;
        }
        let name = agent.filter(|name| !name.is_empty());
        let run = OpenRun::native(name.unwrap_or("default"), key, time, OpenSpans::default());
        let started = run.started(name.map(str::to_owned));
        if let Some((at, displaced)) = self.runs.open(key, run) {
            self.close_incomplete(&displaced, at, emit);
        }
        emit(started);
    }

    /// Ends a run, which failed if `error` is given; then the spans that are still open have failed too. If it succeeded, they are
    /// counted as unmatched, apart from wrappers: their ends did not arrive. So is a run that is not open.
    pub fn end_run(&mut self, key: &str, time: Timestamp, error: Option<String>, emit: &mut dyn FnMut(AgentEvent)) {
        let Some(run) = self.runs.end(key) else { return };
        match &error {
            Some(error) => self.fail_open_spans(&run, time, error, emit),
            None => {
                let open = run.state.iter().filter(|(_, span)| span.kind != SpanKind::Wrapper);
                self.runs.counts.unmatched += open.count() as u64;
            }
        }
        self.forget_spans(&run);
        emit(run.finished(time, error));
    }

    /// Closes a run as incomplete, if it is open.
    pub fn abandon_run(&mut self, key: &str, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        if let Some(run) = self.runs.close(key) {
            self.close_incomplete(&run, time.max(run.started), emit);
        }
    }

    /// Returns the key of the run that `id` is, or that the open span `id` belongs to.
    pub fn run_of<'a>(&'a self, id: &'a str) -> Option<&'a str> {
        match self.run_of.get(id) {
            Some(run) => Some(run),
            None => self.runs.get(id).map(|_| id),
        }
    }

    /// Starts a span of a run. Counted as unmatched if the run is not open, or has too many open spans.
    pub fn start_span(&mut self, run: &str, id: &str, span: OpenSpan, emit: &mut dyn FnMut(AgentEvent)) {
        let open = self.runs.get_mut(run).filter(|run| run.state.spans.len() < MAX_OPEN_SPANS);
        let Some(open) = open else {
            self.runs.counts.unmatched += 1;
            return;
        };
        let bytes = span.bytes(id, run);
        let replaced = open.state.spans.insert(id.to_owned(), span);
        self.run_of.insert(id.to_owned(), run.to_owned());
        self.grow(run, bytes - replaced.map_or(0, |replaced| replaced.bytes(id, run)), emit);
    }

    /// Returns an open span.
    pub fn span_mut(&mut self, id: &str) -> Option<&mut OpenSpan> {
        self.runs.get_mut(self.run_of.get(id)?)?.state.spans.get_mut(id)
    }

    /// Returns the id of the first open span of a run that matches, in the order of ids.
    pub fn find_span(&self, run: &str, matches: impl Fn(&OpenSpan) -> bool) -> Option<String> {
        self.runs.get(run)?.state.iter().find(|(_, span)| matches(span)).map(|(id, _)| id.to_owned())
    }

    /// Ends a span. One that is not open is counted as unmatched.
    ///
    /// Returns an error, and keeps the span open, if a number is out of range.
    pub fn end_span(
        &mut self,
        id: &str,
        time: Timestamp,
        end: SpanEnd,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let (attempt, step_kind) = (self.attempts.get(id).copied(), self.step_kind);
        let Some((key, run)) = self.run_of_span(id) else { return Ok(()) };
        let Some(span) = run.state.spans.get(id) else { return Ok(()) };
        let parent = run.state.reported_parent(span);
        if let Some(event) = span.ended(time, end, attempt, step_kind) {
            event.check()?;
            emit(run.native_event(time, id, parent, event));
        }
        let bytes = span.bytes(id, &key);
        run.state.spans.remove(id);
        self.run_of.remove(id);
        self.attempts.remove(id);
        self.grow(&key, -bytes, emit);
        Ok(())
    }

    /// Ends an attempt of a model or tool call that is tried again: the span goes on with the next attempt. All of them are calls of
    /// one operation, whose id is that of the span unless the model gave one. A step has no attempts. An attempt whose number, from
    /// 1, has ended before is counted as repeated; `None` is the one that is open.
    ///
    /// Returns an error, and changes nothing, if a number is out of range.
    pub fn retry_span(
        &mut self,
        id: &str,
        attempt: Option<u32>,
        time: Timestamp,
        end: SpanEnd,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let (open, step_kind) = (self.attempts.get(id).copied().unwrap_or(1), self.step_kind);
        let attempt = attempt.unwrap_or(open);
        if attempt < open {
            self.runs.counts.repeated += 1;
            return Ok(());
        }
        let Some((key, run)) = self.run_of_span(id) else { return Ok(()) };
        let Some(span) = run.state.spans.get_mut(id) else { return Ok(()) };
        if !matches!(span.kind, SpanKind::Model | SpanKind::Tool) {
            return Ok(());
        }
        let operation = end.operation_id.clone().or_else(|| span.operation_id.clone());
        let end = SpanEnd { operation_id: Some(operation.unwrap_or_else(|| id.to_owned())), ..end };
        let (before, operation) = (span.bytes(id, &key), end.operation_id.clone());
        let event = span.ended(time, end, Some(attempt), step_kind);
        if let Some(event) = &event {
            event.check()?;
        }
        (span.operation_id, span.started, span.first_token) = (operation, time, None);
        let grown = span.bytes(id, &key) - before;
        let Some(span) = run.state.spans.get(id) else { return Ok(()) };
        if let Some(event) = event {
            emit(run.native_event(time, &format!("{id}/{attempt}"), run.state.reported_parent(span), event));
        }
        self.attempts.insert(id.to_owned(), attempt.saturating_add(1));
        self.grow(&key, grown, emit);
        Ok(())
    }

    /// Forgets an open span, which becomes no event.
    pub fn discard_span(&mut self, id: &str) {
        let Some(key) = self.run_of.remove(id) else { return };
        self.attempts.remove(id);
        let span = self.runs.get_mut(&key).and_then(|run| run.state.spans.remove(id));
        if let Some(span) = span {
            // Nothing has to make room for less.
            self.runs.grow(&key, -span.bytes(id, &key));
        }
    }

    /// Returns whether an open span was tried before.
    pub fn is_retried(&self, id: &str) -> bool {
        self.attempts.contains_key(id)
    }

    /// Emits an event of a run that has no duration, with the framework's ids of the event and of the span around it. Counted as
    /// unmatched if the run is not open.
    pub fn event(
        &mut self,
        run: &str,
        (id, parent): (&str, Option<&str>),
        time: Timestamp,
        event: impl Into<Event>,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let event = event.into();
        event.check()?;
        match self.runs.get(run) {
            Some(run) => emit(run.native_event(time, id, run.state.reported(parent), event)),
            None => self.runs.counts.unmatched += 1,
        }
        Ok(())
    }

    /// Closes the runs whose time-out has passed at `now`, as incomplete.
    pub fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        for (deadline, run) in self.runs.expire(now) {
            self.close_incomplete(&run, deadline, emit);
        }
    }

    /// Closes every run as incomplete.
    pub fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        for (end, run) in self.runs.drain() {
            self.close_incomplete(&run, end, emit);
        }
    }

    /// Saves the open runs and their spans.
    pub fn save(&self, state: &mut StateWriter) {
        self.runs.save(state);
        if !self.attempts.is_empty() {
            state.section(ATTEMPTS, |state| state.put(&self.attempts));
        }
    }

    /// Restores saved state.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.runs.restore(state)?;
        let mut rest = *state;
        if !rest.is_empty()
            && let (ATTEMPTS, mut attempts) = rest.section()?
        {
            self.attempts = attempts.take()?;
            *state = rest;
        }
        self.run_of.clear();
        for (key, run) in self.runs.iter() {
            self.run_of.extend(run.state.spans.keys().map(|id| (id.clone(), key.to_owned())));
        }
        Ok(())
    }

    /// Returns the number of open runs and the counts of unused records.
    pub fn stats(&self) -> AdapterStats {
        self.runs.stats()
    }

    /// Returns the run of an open span, with its key. A span that is not open is counted as unmatched.
    fn run_of_span(&mut self, id: &str) -> Option<(String, &mut OpenRun<OpenSpans>)> {
        let Some(key) = self.run_of.get(id).cloned() else {
            self.runs.counts.unmatched += 1;
            return None;
        };
        let run = self.runs.get_mut(&key)?;
        Some((key, run))
    }

    /// Records that the spans of a run take more memory, or less, and closes the oldest runs if all take too much.
    fn grow(&mut self, run: &str, bytes: isize, emit: &mut dyn FnMut(AgentEvent)) {
        for (at, displaced) in self.runs.grow(run, bytes) {
            self.close_incomplete(&displaced, at, emit);
        }
    }

    fn close_incomplete(&mut self, run: &OpenRun<OpenSpans>, time: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.fail_open_spans(run, time, "incomplete: the task never ended", emit);
        self.forget_spans(run);
        emit(run.incomplete(time));
    }

    fn forget_spans(&mut self, run: &OpenRun<OpenSpans>) {
        for id in run.state.spans.keys() {
            self.run_of.remove(id);
            self.attempts.remove(id);
        }
    }

    /// Emits the spans that were open at the end of their run as failed, the latest first.
    fn fail_open_spans(
        &self,
        run: &OpenRun<OpenSpans>,
        time: Timestamp,
        error: &str,
        emit: &mut dyn FnMut(AgentEvent),
    ) {
        let mut open: Vec<_> = run.state.spans.iter().collect();
        open.sort_by_key(|(_, span)| std::cmp::Reverse(span.started));
        for (id, span) in open {
            let end = SpanEnd { error: Some(error.to_owned()), ..SpanEnd::default() };
            if let Some(event) = span.ended(time, end, self.attempts.get(id).copied(), self.step_kind) {
                emit(run.native_event(time, id, run.state.reported_parent(span), event));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_790_000_000 + second)
    }

    fn span(kind: SpanKind, name: &str, parent: Option<&str>, second: i64) -> OpenSpan {
        OpenSpan { parent: parent.map(str::to_owned), ..OpenSpan::new(kind, name, at(second)) }
    }

    /// A run with a step, a wrapper in it, and a tool in that.
    fn nested(limits: RunLimits, run: &str, emit: &mut dyn FnMut(AgentEvent)) -> SpanRuns {
        let mut runs = SpanRuns::new(limits, "node");
        runs.start_run(run, Some("support"), at(0), emit);
        runs.start_span(run, "step", span(SpanKind::Step, "plan", None, 1), emit);
        runs.start_span(run, "wrapper", span(SpanKind::Wrapper, "", Some("step"), 2), emit);
        runs.start_span(run, "tool", span(SpanKind::Tool, "search", Some("wrapper"), 3), emit);
        runs
    }

    #[test]
    fn the_parent_of_a_span_is_the_nearest_that_becomes_an_event() {
        let mut events = Vec::new();
        let mut emit = |event| events.push(event);
        let mut runs = nested(RunLimits::default(), "run", &mut emit);
        for id in ["tool", "wrapper", "step"] {
            runs.end_span(id, at(4), SpanEnd::default(), &mut emit).unwrap();
        }
        runs.end_run("run", at(5), None, &mut emit);
        let [started, tool, step, finished] = &events[..] else { panic!("{events:?}") };
        assert_eq!((tool.parent_span_id, step.parent_span_id), (step.span_id, started.span_id));
        assert_eq!((started.span_id, finished.event.outcome()), (finished.span_id, Some(true)));
    }

    #[test]
    fn spans_that_are_open_when_their_run_fails_have_failed() {
        let mut events = Vec::new();
        let mut emit = |event| events.push(event);
        let mut runs = nested(RunLimits::default(), "run", &mut emit);
        runs.end_run("run", at(9), Some("no answer".to_owned()), &mut emit);
        assert_eq!(runs.run_of("tool"), None);
        let errors = events[1..].iter().map(|event| match &event.event {
            Event::ToolCall(call) => call.error.as_deref(),
            Event::StepFinished(step) => step.error.as_deref(),
            Event::TaskFinished(task) => task.error.as_deref(),
            _ => None,
        });
        assert_eq!(errors.collect::<Vec<_>>(), [Some("no answer"); 3], "the tool, the step and the task");
    }

    #[test]
    fn spans_belong_to_their_run_after_a_restart() {
        let runs = nested(RunLimits::default(), "run", &mut |_| {});
        let mut state = StateWriter::default();
        runs.save(&mut state);
        let state = state.finish().unwrap();
        let mut restored = SpanRuns::new(RunLimits::default(), "node");
        restored.restore(&mut StateReader::new(&state)).unwrap();
        assert_eq!(
            (restored.run_of("tool"), restored.run_of("run"), restored.run_of("x")),
            (Some("run"), Some("run"), None)
        );
    }

    #[test]
    fn attempts_are_calls_of_one_operation_also_after_a_restart() {
        let mut events = Vec::new();
        let mut runs = nested(RunLimits::default(), "run", &mut |_| {});
        let failed = || SpanEnd { error: Some("overloaded".to_owned()), ..SpanEnd::default() };
        for attempt in [Some(1), Some(1), None] {
            runs.retry_span("tool", attempt, at(4), failed(), &mut |event| events.push(event)).unwrap();
        }
        runs.retry_span("step", None, at(4), failed(), &mut |event| events.push(event)).unwrap();
        let mut state = StateWriter::default();
        runs.save(&mut state);
        let (state, mut restored) = (state.finish().unwrap(), SpanRuns::new(RunLimits::default(), "node"));
        restored.restore(&mut StateReader::new(&state)).unwrap();
        assert!(restored.is_retried("tool") && !restored.is_retried("step"));
        restored.end_span("tool", at(6), SpanEnd::default(), &mut |event| events.push(event)).unwrap();
        let calls: Vec<_> = events
            .iter()
            .map(|event| match &event.event {
                Event::ToolCall(call) => (call.attempt, call.operation_id.as_deref(), call.success, call.duration_ms),
                event => panic!("{event:?}"),
            })
            .collect();
        let call = |attempt, success, ms| (Some(attempt), Some("tool"), success, Some(ms));
        assert_eq!(calls, [call(1, false, 1_000.0), call(2, false, 0.0), call(3, true, 2_000.0)]);
        let spans: std::collections::BTreeSet<_> = events.iter().map(|event| event.span_id).collect();
        assert_eq!((spans.len(), runs.stats().repeated), (3, 1), "a span each");
    }

    #[test]
    fn a_start_that_is_sent_twice_is_one_run() {
        let mut events = Vec::new();
        let mut runs = SpanRuns::new(RunLimits::default(), "node");
        for second in [0, 0, 7] {
            runs.start_run("run", None, at(second), &mut |event| events.push(event));
        }
        assert_eq!((runs.stats().repeated, runs.stats().open_runs), (1, 1));
        assert_eq!(events.iter().filter(|event| event.is_incomplete()).count(), 1, "the run that is displaced");
    }

    #[test]
    fn runs_that_make_room_leave_nothing_behind() {
        let limits = RunLimits { max_open_bytes: 20_000, ..RunLimits::default() };
        let (mut runs, mut incomplete) = (SpanRuns::new(limits, "node"), 0);
        for run in 0..100 {
            let mut emit = |event: AgentEvent| incomplete += u64::from(event.is_incomplete());
            let key = format!("run-{run}");
            runs.start_run(&key, Some("support"), at(run), &mut emit);
            for call in 0..5 {
                runs.start_span(&key, &format!("{key}-{call}"), span(SpanKind::Model, "", None, run), &mut emit);
            }
        }
        let stats = runs.stats();
        assert_eq!((stats.open_runs as u64 + incomplete, stats.evicted_runs), (100, incomplete));
        assert!(incomplete > 50 && runs.run_of.len() == 5 * stats.open_runs, "{} spans", runs.run_of.len());
    }

    /// The spans of invalid input may be each other's parents.
    #[test]
    fn a_circle_of_spans_ends() {
        let mut events = Vec::new();
        let mut emit = |event| events.push(event);
        let mut runs = SpanRuns::new(RunLimits::default(), "node");
        runs.start_run("run", None, at(0), &mut emit);
        runs.start_span("run", "a", span(SpanKind::Wrapper, "", Some("b"), 1), &mut emit);
        runs.start_span("run", "b", span(SpanKind::Wrapper, "", Some("a"), 1), &mut emit);
        runs.start_span("run", "c", span(SpanKind::Tool, "search", Some("a"), 1), &mut emit);
        runs.end_span("c", at(2), SpanEnd::default(), &mut emit).unwrap();
        assert_eq!(events[1].parent_span_id, events[0].span_id);
    }
}
