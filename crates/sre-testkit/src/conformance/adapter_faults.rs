//! Faults of an adapter's input, and what is expected in spite of them.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use sre_core::adapter::IngestLimits;
use sre_core::{Adapter, AgentEvent, Event, RunLimits, StateReader, StateWriter, Tally, Timestamp, Totals};

use super::{run, tasks_are_well_formed};
use crate::recordings::{Expected, Recording};
use crate::wire::Wire;

/// Creates the adapter under test.
type Make<'a> = &'a mut dyn FnMut(RunLimits) -> Box<dyn Adapter>;

/// Tests an adapter with faults in the input of a recording. What is expected follows from the recording's ground truth and from
/// the fault:
///
/// - a stream that is cut, also within a record: the runs that have not ended by then are incomplete, the others as recorded;
/// - each record twice: the ground truth, nothing counted twice;
/// - records of one run out of order within a second: the same tasks; each call once, or a record counted as unmatched for it;
/// - runs whose ids are used again: the ground truth twice, and a run that is displaced is incomplete;
/// - a tool failure that the agent got over: a failed call in a task that succeeded;
/// - a rate limit after which the client tried again: one more call, which failed, in a task that succeeded;
/// - a sender whose clock is a day behind, in a live service: the ground truth of both senders, no run incomplete;
/// - an argument of 1 MB: the ground truth; no event and no saved state holds it;
/// - a restart anywhere: the ground truth;
/// - ten thousand runs that never end: all incomplete by their time-out, and no more open than may be.
///
/// # Panics
/// Panics if the adapter does not conform.
pub fn adapter_faults(format: &str, make: Make<'_>, recording: &Recording) {
    let wire = Wire::of(format);
    let recorded =
        Recorded { name: &recording.name, expected: &recording.expected, runs: wire.runs(&recording.lines), wire };
    assert_eq!(recorded.runs.len() as u64, recorded.expected.tasks, "{}: runs in the recording", recorded.name);
    recorded.cut(make);
    recorded.repeated(make);
    recorded.out_of_order(make);
    recorded.ids_used_again(make);
    recorded.recovered(make);
    recorded.rate_limited(make);
    recorded.clock_skew(make);
    recorded.restarted(make);
    if recorded.name == "all_ok" {
        // These take long, and do not depend on what is recorded.
        recorded.large_argument(make);
        recorded.never_ending(make);
    }
}

struct Recorded<'a> {
    name: &'a str,
    expected: &'a Expected,
    /// The records of each run.
    runs: Vec<Vec<Value>>,
    wire: Wire,
}

impl Recorded<'_> {
    fn records(&self) -> Vec<Value> {
        self.runs.concat()
    }

    fn cut(&self, make: Make<'_>) {
        let records = bytes(&self.records());
        // The places of each run's start and end.
        let ends = self.runs.iter().scan(0, |next, run| {
            let start = *next;
            *next += run.len();
            Some((start, start + self.wire.end_of(run)))
        });
        let ends: Vec<(usize, usize)> = ends.collect();
        for length in (0..=records.len()).step_by((records.len() / 20).max(1)).chain([records.len()]) {
            let (mut adapter, mut events) = (make(RunLimits::default()), Vec::new());
            for record in &records[..length] {
                adapter.ingest(record, &mut |event| events.push(event)).expect("a recorded line");
            }
            if let Some(next) = records.get(length) {
                let half = adapter.ingest(&next[..next.len() / 2], &mut |event| events.push(event));
                half.expect_err("half a record is an error");
            }
            adapter.finish(&mut |event| events.push(event));
            tasks_are_well_formed(&events);
            let started = ends.iter().filter(|(start, _)| *start < length).count() as u64;
            let ended = ends.iter().filter(|(_, end)| *end < length).count() as u64;
            let found = totals(&events);
            assert_eq!(
                (found.tasks, found.incomplete),
                (started, started - ended),
                "{}: cut after {length}",
                self.name
            );
        }
    }

    fn repeated(&self, make: Make<'_>) {
        let twice: Vec<Value> = self.records().into_iter().flat_map(|record| [record.clone(), record]).collect();
        self.assert_exact(&run(&mut *make(RunLimits::default()), &bytes(&twice)), 1, "each record twice");
    }

    fn out_of_order(&self, make: Make<'_>) {
        let mut shuffled = Vec::new();
        for run in &self.runs {
            // What is between the start and the end of the run, backwards where a second has passed at most.
            let end = self.wire.end_of(run);
            shuffled.extend_from_slice(&run[..1]);
            let mut window: Vec<Value> = Vec::new();
            for record in &run[1..end] {
                let since = window.first().and_then(Wire::time).zip(Wire::time(record));
                if since.is_some_and(|(first, time)| time.millis_since(first) > 1_000.0) {
                    shuffled.extend(window.drain(..).rev());
                }
                window.push(record.clone());
            }
            shuffled.extend(window.into_iter().rev());
            shuffled.extend_from_slice(&run[end..]);
        }
        let (mut adapter, mut events) = (make(RunLimits::default()), Vec::new());
        for record in bytes(&shuffled) {
            adapter.ingest(&record, &mut |event| events.push(event)).expect("a recorded line");
        }
        adapter.finish(&mut |event| events.push(event));
        tasks_are_well_formed(&events);
        let (found, expected) = (totals(&events), self.expected);
        assert_eq!((found.tasks, found.incomplete), (expected.tasks, 0), "{}: out of order", self.name);
        let calls = expected.tool_calls + expected.llm_calls.unwrap_or(found.llm_calls);
        let counted = found.tool_calls + found.llm_calls;
        let stats = adapter.stats();
        let lost = stats.unmatched + stats.repeated;
        assert!(counted <= calls && counted + lost >= calls, "{}: {counted} of {calls} calls, {stats:?}", self.name);
        if self.wire.is_ordered_by_ids {
            self.assert_exact(&events, 1, "out of order");
        }
    }

    fn ids_used_again(&self, make: Make<'_>) {
        let records = self.wire.with_one_id(self.records());
        let later: Vec<Value> = records.iter().map(|record| self.wire.shifted(record, 3_600)).collect();
        let again = match self.wire.has_traces {
            true => later.iter().map(|record| self.wire.renamed_span(record, 1)).collect(),
            false => later,
        };
        let events = run(&mut *make(RunLimits::default()), &bytes(&[records.clone(), again.clone()].concat()));
        self.assert_exact(&events, 2, "ids used again");
        if !self.wire.has_traces {
            // The run that has only started has the id of the first one.
            let interrupted = [vec![records[0].clone()], again].concat();
            let limits = RunLimits { task_timeout: Duration::from_secs(86_400), ..RunLimits::default() };
            let found = totals(&run(&mut *make(limits), &bytes(&interrupted)));
            assert_eq!((found.tasks, found.incomplete), (self.expected.tasks + 1, 1), "{}: displaced", self.name);
            assert_eq!(found.succeeded, self.expected.succeeded, "{}: displaced", self.name);
        }
    }

    fn recovered(&self, make: Make<'_>) {
        if self.name != "tool_failure_recovered" {
            return;
        }
        let events = run(&mut *make(RunLimits::default()), &bytes(&self.records()));
        let of = |matches: fn(&Event) -> bool| -> HashSet<String> {
            events.iter().filter(|event| matches(&event.event)).map(|event| event.task_key().into_owned()).collect()
        };
        let failed_calls = of(|event| matches!(event, Event::ToolCall(call) if !call.success));
        let succeeded = of(|event| matches!(event, Event::TaskFinished(task) if task.success));
        assert!(!failed_calls.is_empty() && failed_calls.is_subset(&succeeded), "{failed_calls:?}");
    }

    fn rate_limited(&self, make: Make<'_>) {
        let Some((records, calls)) = self.wire.rate_limited_call(&self.runs[0][0]) else { return };
        let all = [vec![self.runs[0][0].clone()], records, self.records().split_off(1)].concat();
        let found = totals(&run(&mut *make(RunLimits::default()), &bytes(&all)));
        let expected = self.expected;
        assert_eq!(
            [found.succeeded, found.failed, found.llm_calls, found.llm_errors],
            [
                expected.succeeded,
                expected.failed,
                expected.llm_calls.unwrap_or(0) + calls,
                expected.llm_errors.unwrap_or(0) + 1
            ],
            "{}: succeeded, failed, model calls, failed model calls after a rate limit",
            self.name
        );
    }

    fn clock_skew(&self, make: Make<'_>) {
        let here = self.wire.with_run_ids(self.records(), "here");
        let behind = self.wire.with_run_ids(self.records(), "behind");
        let behind = behind.iter().map(|record| self.wire.renamed(&self.wire.shifted(record, -86_400), 1));
        let behind: Vec<Value> = behind.collect();
        let (mut adapter, mut events) = (make(RunLimits::default()), Vec::new());
        let mut arrived = Timestamp::default();
        for (here, behind) in here.iter().zip(&behind) {
            arrived = arrived.max(Wire::time(here).unwrap_or(arrived));
            let limits = IngestLimits::live(arrived, Duration::from_secs(300));
            for record in bytes(&[here.clone(), behind.clone()]) {
                adapter.ingest_record(&record, &limits, &mut |event| events.push(event)).expect("a recorded line");
            }
            adapter.expire(arrived, &mut |event| events.push(event));
        }
        adapter.finish(&mut |event| events.push(event));
        self.assert_exact(&events, 2, "a sender a day behind");
    }

    fn large_argument(&self, make: Make<'_>) {
        /// The beginning of an argument in the first run of the recordings.
        const ARGUMENT: [&str; 2] = ["\"0-0", "'0-0"];
        let large = "x".repeat(1_000_000);
        let (mut adapter, mut events, mut is_replaced) = (make(RunLimits::default()), Vec::new(), false);
        let first = self.runs[0].len();
        for (number, record) in self.records().iter().enumerate() {
            let mut record = record.to_string();
            if number < first {
                for argument in ARGUMENT {
                    let replaced =
                        record.replacen(argument, &format!("{}{large}", argument.trim_end_matches("0-0")), 1);
                    is_replaced |= replaced.len() > record.len();
                    record = replaced;
                }
            }
            adapter.ingest(record.as_bytes(), &mut |event| events.push(event)).expect("a recorded line");
            if number < first {
                assert!(state_of(&*adapter).len() < 100_000, "{}: the state holds an argument", self.name);
            }
        }
        adapter.finish(&mut |event| events.push(event));
        self.assert_exact(&events, 1, "an argument of 1 MB");
        let longest = events.iter().map(|event| serde_json::to_vec(event).expect("an event is JSON").len()).max();
        assert!(longest.is_some_and(|longest| longest < 20_000), "{}: an event holds an argument", self.name);
        assert!(
            is_replaced || !self.wire.has_arguments || self.wire.has_traces,
            "{}: no argument in the recording",
            self.name
        );
    }

    fn restarted(&self, make: Make<'_>) {
        let records = bytes(&self.records());
        for part in 1..10 {
            let (before, after) = records.split_at(records.len() * part / 10);
            let (mut old, mut new, mut events) = (make(RunLimits::default()), make(RunLimits::default()), Vec::new());
            before
                .iter()
                .for_each(|record| old.ingest(record, &mut |event| events.push(event)).expect("a recorded line"));
            new.restore(&mut StateReader::new(&state_of(&*old))).expect("the state that was just saved");
            after
                .iter()
                .for_each(|record| new.ingest(record, &mut |event| events.push(event)).expect("a recorded line"));
            new.finish(&mut |event| events.push(event));
            self.assert_exact(&events, 1, "a restart");
        }
    }

    fn never_ending(&self, make: Make<'_>) {
        let first = &self.runs[0][0];
        let start = Wire::time(first).unwrap_or_default();
        for (runs, max_open_runs) in [(10_000, RunLimits::default().max_open_runs), (1_000, 100)] {
            let limits = RunLimits { max_open_runs, ..RunLimits::default() };
            let (mut adapter, mut events) = (make(limits), Vec::new());
            for number in 0..runs {
                let record = self.wire.with_id(first, number).to_string();
                adapter.ingest(record.as_bytes(), &mut |event| events.push(event)).expect("a recorded line");
                assert!(adapter.stats().open_runs <= max_open_runs, "{}: open runs", self.name);
            }
            let open = adapter.stats().open_runs as u64;
            assert_eq!(open, runs.min(max_open_runs as u64), "{}: open runs", self.name);
            assert_eq!(adapter.stats().evicted_runs, runs - open, "{}: evicted runs", self.name);
            let timed_out = start.saturating_add(2 * limits.task_timeout);
            adapter.expire(timed_out, &mut |event| events.push(event));
            assert_eq!(adapter.stats().open_runs, 0, "{}: open after the time-out", self.name);
            let found = totals(&events);
            assert_eq!((found.tasks, found.incomplete), (runs, runs), "{}: runs that never end", self.name);
        }
    }

    /// Compares events with `times` the ground truth.
    fn assert_exact(&self, events: &[AgentEvent], times: u64, fault: &str) {
        tasks_are_well_formed_but_for_names(events);
        self.expected.times(times).assert_matches(events, &format!("{}: {fault}", self.name));
        assert_eq!(totals(events).incomplete, 0, "{}: {fault}: incomplete tasks", self.name);
    }
}

/// Checks that as many tasks finish as start; a name may be used again.
fn tasks_are_well_formed_but_for_names(events: &[AgentEvent]) {
    let count = |matches: fn(&Event) -> bool| events.iter().filter(|event| matches(&event.event)).count();
    let started = count(|event| matches!(event, Event::TaskStarted(_)));
    assert_eq!(started, count(|event| matches!(event, Event::TaskFinished(_))), "tasks that start and finish");
}

fn totals(events: &[AgentEvent]) -> Totals {
    let mut tally = Tally::default();
    events.iter().for_each(|event| tally.observe(event));
    tally.totals().clone()
}

fn bytes(records: &[Value]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.to_string().into_bytes()).collect()
}

fn state_of(adapter: &dyn Adapter) -> Vec<u8> {
    let mut state = StateWriter::default();
    adapter.save(&mut state);
    state.finish().expect("a state that can be written")
}
