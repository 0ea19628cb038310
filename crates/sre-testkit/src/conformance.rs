//! Conformance suites for implementations of the traits.

mod adapter_faults;
mod alerts;
mod journal;
mod ledger;
mod schema;

pub use adapter_faults::adapter_faults;
pub use alerts::alert_store;
pub use journal::journal_store;
pub use ledger::ledger_store;
pub use schema::schema;

pub use crate::exporter::{Arrived, ArrivedSpan, Backend, CALL, SECRET, Usage, client, exporter};
pub use crate::pull_exporter::{Scraper, pull_exporter};

use sre_core::adapter::{Body, BodyKind, IngestLimits};
use sre_core::event::TaskFinished;
use sre_core::{Adapter, AgentEvent, Event, Sli, StateReader, StateWriter, Timestamp};

/// Tests an indicator: it has no value without data, accepts every event without a panic, and its readings are
/// consistent.
///
/// # Panics
/// Panics if the indicator does not conform.
pub fn sli(indicator: &dyn Sli) {
    let name = &indicator.spec().name;
    let now = Timestamp::from_secs(1_790_000_000);
    let empty = indicator.reading(now);
    assert_eq!(empty.samples, 0, "{name} starts without samples");
    assert_eq!((empty.value, empty.compliance, empty.interval), (None, None, None), "{name}: no data is no number");
    for json in EVENTS {
        let event = AgentEvent::from_json(json.as_bytes()).expect("the suite's own events are valid");
        indicator.observe(&event);
    }
    for moment in [Timestamp::default(), now, Timestamp::from_nanos(i64::MAX)] {
        let reading = indicator.reading(moment);
        for ratio in [reading.compliance, reading.interval.map(|(low, _)| low), reading.interval.map(|(_, high)| high)]
        {
            assert!(ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)), "{name}: {reading:?}");
        }
        assert!(reading.value.is_none_or(f64::is_finite), "{name}: {reading:?}");
        assert_eq!(reading.value.is_some(), reading.samples > 0, "{name}: {reading:?}");
    }
    let later = now.saturating_add(indicator.spec().window.duration() * 3);
    assert_eq!(indicator.reading(later).samples, 0, "{name} forgets what its window has left behind");
}

const EVENTS: [&str; 12] = [
    r#"{"event":"task_started","time":1790000000,"agent":"a","task":"1"}"#,
    r#"{"event":"llm_call","time":1790000000,"agent":"a","task":"1","cost_usd":"0.01","first_token_ms":10}"#,
    r#"{"event":"tool_call","time":1790000000,"agent":"a","task":"1","tool":"t","arguments_hash":"1","correct":true}"#,
    r#"{"event":"step_finished","time":1790000000,"agent":"a","task":"1","name":"n"}"#,
    r#"{"event":"handoff","time":1790000000,"agent":"a","task":"1","from":"a","to":"b"}"#,
    r#"{"event":"message","time":1790000000,"agent":"a","task":"1","sender":"a"}"#,
    r#"{"event":"policy_check","time":1790000000,"agent":"a","task":"1","compliant":false}"#,
    r#"{"event":"evaluation","time":1790000000,"agent":"a","metric":"hallucination","score":0.9,"confidence":0.5}"#,
    r#"{"event":"http_request","time":1790000000,"agent":"a","url":"u","status_code":500}"#,
    r#"{"event":"heartbeat","time":1790000000,"agent":"a"}"#,
    r#"{"event":"task_finished","time":1790000000,"agent":"a","task":"1","success":true,"duration_ms":5,"attributes":{"confidence":0.9}}"#,
    r#"{"event":"moon_landing","time":1790000000,"agent":"a"}"#,
];

/// Tests an adapter with the `records` of a recording, except for its ground truth:
///
/// - each task starts before it finishes, and finishes once; its events have its name;
/// - invalid records are errors or ignored, never a panic, and change nothing;
/// - a restart in the middle of a recording changes nothing;
/// - a recording that is cut short yields its open tasks as incomplete and failed, at its end or by time-out;
/// - a body of many records yields the same events as the records one by one, decoded ahead or not;
/// - a body that was decoded ahead is not read again;
/// - records of a clock that is ahead are rejected and change nothing.
///
/// # Panics
/// Panics if the adapter does not conform.
pub fn adapter(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>]) {
    let whole = run(&mut *make(), records);
    tasks_are_well_formed(&whole);
    rubbish_changes_nothing(make, records, &whole);
    a_restart_changes_nothing(make, records, &whole);
    cut_short_is_incomplete(make, records);
    a_body_is_its_records(make, records, &whole);
    a_line_is_parsed_once(make, records, &whole);
    a_clock_that_is_ahead_changes_nothing(make, records);
}

/// Returns all events that an adapter emits for `records`, to the end of the input.
///
/// # Panics
/// Panics if a record is rejected.
pub fn run(adapter: &mut dyn Adapter, records: &[Vec<u8>]) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let result = adapter.ingest(record, &mut |event| events.push(event));
        result.unwrap_or_else(|error| panic!("record {}: {error}", number + 1));
    }
    adapter.finish(&mut |event| events.push(event));
    assert_eq!(adapter.stats().open_runs, 0, "nothing is open after the end");
    events
}

fn tasks_are_well_formed(events: &[AgentEvent]) {
    let mut open = std::collections::HashSet::new();
    let mut closed = std::collections::HashSet::new();
    for event in events {
        let key = (event.agent.clone(), event.task_key().into_owned());
        match &event.event {
            Event::TaskStarted(_) => assert!(open.insert(key), "started twice: {event:?}"),
            Event::TaskFinished(TaskFinished { success, error, .. }) => {
                assert!(open.contains(&key), "finished before it started: {event:?}");
                assert!(closed.insert(key), "finished twice: {event:?}");
                assert_eq!(error.is_some(), !success, "a failure says why: {event:?}");
                assert!(!(*success && event.is_incomplete()), "incomplete and succeeded: {event:?}");
            }
            _ => {}
        }
    }
    assert_eq!(open, closed, "every task ends");
}

fn rubbish_changes_nothing(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>], whole: &[AgentEvent]) {
    let mut adapter = make();
    let mut events = Vec::new();
    let rubbish: [&[u8]; 6] = [b"", b"{", b"null", b"[1,2", b"\xff\xfe\x00", b"{\"event\":7}"];
    for (number, record) in records.iter().enumerate() {
        let _ = adapter.ingest(rubbish[number % rubbish.len()], &mut |event| events.push(event));
        let half = &record[..record.len() / 2];
        if adapter.ingest(half, &mut |event| events.push(event)).is_ok() && !half.is_empty() {
            // A protobuf body cut at the end of a field is a valid, smaller body: the events after it cannot be
            // compared.
            return;
        }
        adapter.ingest(record, &mut |event| events.push(event)).expect("a good record after a bad one");
    }
    adapter.finish(&mut |event| events.push(event));
    assert_eq!(events.len(), whole.len(), "bad records between good ones change nothing");
}

fn a_restart_changes_nothing(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>], whole: &[AgentEvent]) {
    for part in 1..8 {
        let (before, after) = records.split_at(records.len() * part / 8);
        let (mut old, mut new) = (make(), make());
        let mut events = Vec::new();
        for record in before {
            old.ingest(record, &mut |event| events.push(event)).expect("a good record");
        }
        let mut state = StateWriter::default();
        old.save(&mut state);
        let state = state.finish().expect("a state that can be written");
        let mut state = StateReader::new(&state);
        new.restore(&mut state).expect("the state that was just written");
        assert!(state.is_empty(), "all that was written is read");
        assert_eq!(new.stats(), old.stats(), "what is open, and what was counted, is kept");
        for record in after {
            new.ingest(record, &mut |event| events.push(event)).expect("a good record");
        }
        new.finish(&mut |event| events.push(event));
        assert!(events == whole, "a restart after {part}/8 of the records changes the events");
    }
}

fn a_body_is_its_records(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>], whole: &[AgentEvent]) {
    let lines = records.join(&b'\n');
    for is_decoded in [false, true] {
        let (mut adapter, mut events) = (make(), Vec::new());
        let mut body = Body::new(BodyKind::Lines, lines.clone());
        if is_decoded && let Some(decode) = adapter.decoder() {
            body = decode(body).expect("a good body");
        }
        let report = adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event));
        let report = report.expect("a good body");
        assert!(report.rejected == 0 && report.errors.is_empty(), "{report:?}");
        assert!(report.accepted >= records.len() as u64, "{report:?}");
        adapter.finish(&mut |event| events.push(event));
        assert!(events == whole, "a body of all records yields other events than the records");
    }
}

fn a_line_is_parsed_once(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>], whole: &[AgentEvent]) {
    let (mut adapter, mut events) = (make(), Vec::new());
    let Some(decode) = adapter.decoder() else { return };
    for record in records {
        let mut body = decode(Body::new(BodyKind::Traces, record.clone())).expect("a good record");
        assert_eq!(body.kind, BodyKind::Decoded);
        body.bytes = Default::default();
        let report = adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event));
        report.expect("a good record");
    }
    adapter.finish(&mut |event| events.push(event));
    assert!(events == whole, "the bytes of a body that was decoded are read again");
}

fn a_clock_that_is_ahead_changes_nothing(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>]) {
    let (mut adapter, mut events) = (make(), Vec::new());
    let limits = IngestLimits::not_after(Timestamp::from_secs(1));
    for record in records {
        let outcome = adapter.ingest_record(record, &limits, &mut |event| events.push(event));
        let is_accepted = outcome.is_ok_and(|report| report.accepted > 0);
        assert!(!is_accepted, "a record from the future is accepted");
    }
    assert_eq!((adapter.stats().open_runs, adapter.stats().latest), (0, Timestamp::default()));
    adapter.finish(&mut |event| events.push(event));
    assert!(events.is_empty(), "a record from the future yields events");
}

fn cut_short_is_incomplete(make: &mut dyn FnMut() -> Box<dyn Adapter>, records: &[Vec<u8>]) {
    for length in [1, records.len() / 2, records.len().saturating_sub(1)] {
        let records = &records[..length.min(records.len())];
        tasks_are_well_formed(&run(&mut *make(), records));
        let mut adapter = make();
        let mut events = Vec::new();
        for record in records {
            adapter.ingest(record, &mut |event| events.push(event)).expect("a good record");
        }
        let open = adapter.stats().open_runs;
        let before = events.len();
        let far_away = Timestamp::from_secs(4_000_000_000);
        adapter.expire(far_away, &mut |event| events.push(event));
        assert_eq!(adapter.stats().open_runs, 0, "everything times out in the end");
        let ended = events[before..].iter().filter(|event| matches!(event.event, Event::TaskFinished(_))).count();
        assert_eq!(ended, open, "every run that times out is reported");
    }
}
