//! Every recording matches its ground truth, and every adapter passes the conformance suite.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use agent_sre::Format;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use sre_adapter_langgraph::LangGraphAdapter;
use sre_adapter_otel::OtelAdapter;
use sre_core::adapter::{Body, BodyKind, IngestLimits, RunLimits};
use sre_core::{Adapter, Event, Sli, SpanId, Tally};
use sre_slo::{RepeatedToolCalls, StepsPerTask, TimeToFirstToken};
use sre_testkit::conformance;
use sre_testkit::recordings::{Recording, folders, in_folder, with_run_ids};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

fn lines(recording: &Recording) -> Vec<Vec<u8>> {
    let text = std::fs::read(&recording.lines).unwrap();
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Returns the folders of recordings, each with the constructor of its adapter.
fn frameworks() -> impl Iterator<Item = (String, impl Fn() -> Box<dyn Adapter>)> {
    folders(&folder("")).into_iter().map(|(folder, format)| {
        let format: Format = format.parse().unwrap();
        (folder, move || format.adapter(RunLimits::default()))
    })
}

#[test]
fn every_recording_matches_its_ground_truth() {
    for (name, make) in frameworks() {
        for recording in in_folder(&folder(&name)) {
            let events = conformance::run(&mut *make(), &lines(&recording));
            recording.expected.assert_matches(&events, &format!("{name}/{}", recording.name));
        }
    }
}

#[test]
fn every_adapter_passes_the_suite() {
    for (name, make) in frameworks() {
        for recording in in_folder(&folder(&name)) {
            conformance::adapter(&mut || make(), &lines(&recording));
        }
    }
}

/// The suite of faults, with the recordings whose runs do not overlap.
#[test]
fn every_adapter_counts_right_in_spite_of_faults() {
    for (name, format) in folders(&folder("")) {
        let format: Format = format.parse().unwrap();
        for recording in in_folder(&folder(&name)) {
            // The faults are put between the start and the end of runs.
            let is_complete = recording.expected.incomplete.is_none();
            if is_complete && ["all_ok", "task_failure", "tool_failure_recovered"].contains(&&*recording.name) {
                println!("{name}/{}", recording.name);
                conformance::adapter_faults(format.as_str(), &mut |limits| format.adapter(limits), &recording);
            }
        }
    }
}

/// The first records of each recording show its format, in any order and cut off, and so does the start of a protobuf body.
#[test]
fn the_format_of_every_recording_is_detected() {
    for (name, format) in folders(&folder("")) {
        let format: Format = format.parse().unwrap();
        for recording in in_folder(&folder(&name)) {
            let lines = lines(&recording);
            let mut random = fastrand::Rng::with_seed(17);
            for first in 0..lines.len().min(16) {
                let mut some = lines[..=first].to_vec();
                random.shuffle(&mut some);
                let mut text = some.join(&b'\n');
                text.extend_from_slice(b"\n{\"event\": \"on_ch");
                assert_eq!(Format::detect(&text), Ok(format), "{name}/{}: the first {first} lines", recording.name);
            }
            for line in &lines {
                let detected = Format::detect(line);
                assert_eq!(detected, Ok(format), "{name}/{}: {}", recording.name, String::from_utf8_lossy(line));
            }
            for body in &recording.bodies {
                let body = std::fs::read(body).unwrap();
                assert_eq!(Format::detect(&body[..body.len().min(4_096)]), Ok(format), "{name}/{}", recording.name);
            }
        }
    }
    let native = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/events.jsonl")).unwrap();
    assert_eq!(Format::detect(&native).unwrap().as_str(), "sre");
}

/// Checks that overlapping runs are kept apart: feeds recordings of the same quarter of an hour, one line of each in turn.
fn check_interleaved(name: &str, format: &str, make: &dyn Fn() -> Box<dyn Adapter>) {
    let of_one_time = ["all_ok", "task_failure", "tool_failure_recovered"];
    let recordings: Vec<_> =
        in_folder(&folder(name)).into_iter().filter(|recording| of_one_time.contains(&&*recording.name)).collect();
    let mut queues: Vec<_> = recordings.iter().map(|recording| with_run_ids(format, recording).into_iter()).collect();
    let mut interleaved = Vec::new();
    loop {
        let before = interleaved.len();
        interleaved.extend(queues.iter_mut().filter_map(Iterator::next));
        if interleaved.len() == before {
            break;
        }
    }
    let events = conformance::run(&mut *make(), &interleaved);
    let sum = |part: &dyn Fn(&Recording) -> u64| recordings.iter().map(part).sum::<u64>();
    let mut tally = Tally::default();
    events.iter().for_each(|event| tally.observe(event));
    let found = tally.totals();
    assert_eq!(found.succeeded, sum(&|recording| recording.expected.succeeded), "{name}");
    assert_eq!(found.failed, sum(&|recording| recording.expected.failed), "{name}");
    assert_eq!(found.incomplete, 0, "{name}");
    assert_eq!(found.tool_errors, sum(&|recording| recording.expected.tool_errors), "{name}");
    assert_eq!(found.llm_calls, sum(&|recording| recording.expected.llm_calls.unwrap()), "{name}");
}

/// Time to first token, steps and repeated calls match the ground truth where recordings have it.
#[test]
fn slow_streams_and_loops_show_in_their_indicators() {
    let read = |name: &str, adapter: &mut dyn Adapter| {
        let recording = in_folder(&folder("langgraph")).into_iter().find(|recording| recording.name == name).unwrap();
        let (first_token, repeats, steps) =
            (TimeToFirstToken::default(), RepeatedToolCalls::default(), StepsPerTask::default());
        let events = conformance::run(adapter, &lines(&recording));
        for event in &events {
            for indicator in [&first_token as &dyn Sli, &repeats, &steps] {
                indicator.observe(event);
            }
        }
        let now = events.iter().map(|event| event.time).max().unwrap();
        (recording.expected, [first_token.reading(now), repeats.reading(now), steps.reading(now)])
    };
    let (expected, [first_token, repeats, _]) = read("streamed_slowly", &mut LangGraphAdapter::default());
    let delays = expected.first_token_at_least_ms.unwrap();
    assert_eq!(first_token.samples, delays.len() as u64, "a sample each streamed call");
    assert!(first_token.maximum.unwrap() >= delays[delays.len() - 1]);
    assert_eq!((repeats.samples, repeats.maximum), (expected.tasks, Some(0.0)));
    let (expected, [_, repeats, steps]) = read("looping", &mut LangGraphAdapter::default());
    assert_eq!(repeats.samples, expected.tasks);
    assert_eq!(repeats.maximum, expected.most_repeats_in_a_task.map(|most| most as f64));
    // Each model call and tool call of a task is in a separate node.
    let nodes = expected.llm_calls.unwrap() + expected.tool_calls;
    assert_eq!(steps.value, Some(nodes as f64 / expected.tasks as f64));
}

#[test]
fn overlapping_runs_are_kept_apart() {
    for (name, format) in folders(&folder("")) {
        if !name.starts_with("otlp-") || name == "otlp-vercel-ai" {
            let parsed: Format = format.parse().unwrap();
            check_interleaved(&name, format, &|| parsed.adapter(RunLimits::default()));
        }
    }
}

/// The order of spans and their distribution over requests do not matter.
#[test]
fn otlp_spans_in_any_order() {
    for dialect in OTLP {
        for recording in in_folder(&folder(dialect)) {
            let mut single = Vec::new();
            for line in lines(&recording) {
                let request: Value = serde_json::from_slice(&line).unwrap();
                for_each_span(&request, &mut |resource, span| {
                    let scope = json!([{"spans": [span]}]);
                    let request = json!({"resourceSpans": [{"resource": resource["resource"], "scopeSpans": scope}]});
                    single.push((span["startTimeUnixNano"].to_string(), request.to_string().into_bytes()));
                });
            }
            single.sort();
            let by_start: Vec<Vec<u8>> = single.into_iter().map(|(_, request)| request).collect();
            let events = conformance::run(&mut OtelAdapter::default(), &by_start);
            recording.expected.assert_matches(&events, &format!("{dialect}/{} by start", recording.name));
        }
    }
}

/// The raw protobuf bodies of a recording yield the same events as their JSON form.
#[test]
fn otlp_protobuf_is_the_same_as_json() {
    for dialect in OTLP {
        for recording in in_folder(&folder(dialect)) {
            let bodies: Vec<Vec<u8>> = recording.bodies.iter().map(|body| std::fs::read(body).unwrap()).collect();
            assert!(!bodies.is_empty(), "{dialect}/{} has no bodies", recording.name);
            let json: Vec<Vec<u8>> = lines(&recording).into_iter().take(bodies.len()).collect();
            let complete = lines(&recording).len() == bodies.len();
            let from_bodies = conformance::run(&mut OtelAdapter::default(), &bodies);
            let from_json = conformance::run(&mut OtelAdapter::default(), &json);
            assert_eq!(from_bodies, from_json, "{dialect}/{}", recording.name);
            if complete {
                recording.expected.assert_matches(&from_bodies, &format!("{dialect}/{}", recording.name));
            }
        }
    }
}

/// A journal keeps the decoded part of a body: it yields the same events, and is much smaller.
#[test]
fn what_a_journal_keeps_of_a_body_yields_the_same_events() {
    let (mut received, mut kept) = (0, 0);
    for recording in OTLP.into_iter().flat_map(|dialect| in_folder(&folder(dialect))) {
        let bodies: Vec<Bytes> = recording.bodies.iter().map(|body| std::fs::read(body).unwrap().into()).collect();
        let decode = OtelAdapter::default().decoder().unwrap();
        let decode_all = |kind, bodies: &[Bytes]| -> Vec<Body> {
            bodies.iter().map(|body| decode(Body::new(kind, body.clone())).unwrap()).collect()
        };
        let decoded = decode_all(BodyKind::Traces, &bodies);
        let saved: Vec<Bytes> = decoded.iter().map(|body| body.bytes.clone()).collect();
        let size = |bodies: &[Bytes]| bodies.iter().map(Bytes::len).sum::<usize>();
        (received, kept) = (received + size(&bodies), kept + size(&saved));
        let read_back = saved.iter().map(|body| Body::new(BodyKind::Decoded, body.clone())).collect();
        let decoded_again = decode_all(BodyKind::Decoded, &saved);
        let expected =
            conformance::run(&mut OtelAdapter::default(), &bodies.iter().map(|body| body.to_vec()).collect::<Vec<_>>());
        for bodies in [decoded, read_back, decoded_again] {
            let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
            for body in bodies {
                adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event)).unwrap();
            }
            adapter.finish(&mut |event| events.push(event));
            assert_eq!(events, expected, "{}", recording.name);
        }
    }
    assert!(kept * 4 < received, "{kept} bytes are kept of {received}");
}

/// Every event descends from the start and end of its task, through spans that have events themselves.
#[test]
fn the_tree_of_a_trace_can_be_rebuilt_from_its_events() {
    for (name, make) in frameworks() {
        for recording in in_folder(&folder(&name)) {
            let events = conformance::run(&mut *make(), &lines(&recording));
            let mut parents = HashMap::new();
            let mut roots = HashSet::new();
            for event in events.iter().filter(|event| !matches!(event.event, Event::SpanFinished(_))) {
                let span = (event.trace_id.unwrap(), event.span_id.expect("every event has its span's id"));
                match event.event {
                    Event::TaskStarted(_) => assert!(roots.insert(span), "{name}: {event:?}"),
                    Event::TaskFinished(_) => assert!(roots.contains(&span), "{name}: {event:?}"),
                    // Evaluations and checks of the task's own span.
                    _ if roots.contains(&span) => {}
                    _ => {
                        let parent = (span.0, event.parent_span_id.expect("every event inside a task has a parent"));
                        assert_eq!(*parents.entry(span).or_insert(parent), parent, "{name}: one parent a span");
                    }
                }
            }
            let mut depths = Vec::new();
            for span in parents.keys() {
                let path: Vec<_> = std::iter::successors(Some(span), |span| parents.get(*span)).take(99).collect();
                assert!(roots.contains(*path.last().unwrap()), "{name}/{}: {span:?} leads to no task", recording.name);
                depths.push(path.len());
            }
            assert!(roots.len() as u64 >= recording.expected.tasks && depths.iter().any(|depth| *depth > 1), "{name}");
        }
    }
}

/// The tree of events equals the tree of spans, without spans that have no events; and each event has its span as it was recorded.
#[test]
fn parents_in_events_are_ancestors_in_the_recorded_trace() {
    for dialect in OTLP {
        for recording in in_folder(&folder(dialect)) {
            let mut parents = HashMap::new();
            for line in lines(&recording) {
                let request: Value = serde_json::from_slice(&line).unwrap();
                for_each_span(&request, &mut |_, span| {
                    parents.insert(id(&span["spanId"]).unwrap(), id(&span["parentSpanId"]));
                });
            }
            let mut recorded = HashMap::new();
            for event in conformance::run(&mut OtelAdapter::default(), &lines(&recording)) {
                let span = event.span_id.unwrap();
                let of = |span: SpanId| parents.get(&span).copied().flatten();
                let is_lost =
                    |span: SpanId| !parents.contains_key(&span) && parents.values().any(|id| *id == Some(span));
                assert!(parents.contains_key(&span) || is_lost(span), "{dialect}: {event:?}");
                recorded.extend(event.span.as_ref().map(|of| (span, of.parent_span_id)));
                let Some(parent) = event.parent_span_id else { continue };
                let ancestors: Vec<SpanId> = std::iter::successors(of(span), |span| of(*span)).collect();
                // Below a span that was lost, the task is the parent.
                let is_below_a_lost_one = ancestors.last().is_some_and(|last| is_lost(*last));
                assert!(ancestors.contains(&parent) || is_below_a_lost_one, "{dialect}: {event:?}");
            }
            assert_eq!(recorded, parents, "{dialect}/{}", recording.name);
        }
    }
}

/// Calls `each` with every resource and span of a request.
fn for_each_span(request: &Value, each: &mut dyn FnMut(&Value, &Value)) {
    for resource in request["resourceSpans"].as_array().unwrap() {
        for scope in resource["scopeSpans"].as_array().unwrap() {
            scope["spans"].as_array().unwrap().iter().for_each(|span| each(resource, span));
        }
    }
}

/// Parses a base64 id of a recording.
fn id(text: &Value) -> Option<SpanId> {
    SpanId::from_bytes(STANDARD.decode(text.as_str()?).unwrap().try_into().ok()?)
}

const OTLP: [&str; 13] = [
    "otlp-agent-framework",
    "otlp-agno",
    "otlp-claude-agent-sdk",
    "otlp-google-adk",
    "otlp-haystack",
    "otlp-langgraph",
    "otlp-openai-agents",
    "otlp-pydantic-ai",
    "otlp-semantic-kernel",
    "otlp-smolagents",
    "otlp-strands",
    "otlp-traceloop",
    "otlp-vercel-ai",
];
