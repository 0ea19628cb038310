//! Cases that the recordings do not cover: streams, costs, evaluations, nested agents, plain spans, unfinished traces.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use serde_json::{Value, json};
use sre_adapter_otel::OtelAdapter;
use sre_core::adapter::{Body, BodyKind, IngestLimits};
use sre_core::event::LlmCall;
use sre_core::{Adapter, AgentEvent, Event, Span, SpanId, SpanRole, Timestamp, Usd};

#[path = "dialects/attempts.rs"]
mod attempts;
#[path = "dialects/generations.rs"]
mod generations;
#[path = "dialects/mcp.rs"]
mod mcp;

const START: u64 = 1_790_000_000_000_000_000;
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

/// Creates a span of the trace, from `from` to `to` milliseconds after its start. A parent of 0 means no parent.
fn span(id: u32, parent: u32, name: &str, from: u64, to: u64, attributes: Value) -> Value {
    let attributes: Vec<Value> = attributes
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::String(text) => json!({"stringValue": text}),
                Value::Bool(flag) => json!({"boolValue": flag}),
                Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
                number => json!({"intValue": number.to_string()}),
            };
            json!({"key": key, "value": value})
        })
        .collect();
    let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
    json!({
        "traceId": TRACE, "spanId": format!("{id:016x}"), "parentSpanId": parent, "name": name, "kind": 1,
        "startTimeUnixNano": (START + from * 1_000_000).to_string(),
        "endTimeUnixNano": (START + to * 1_000_000).to_string(),
        "attributes": attributes,
    })
}

fn with(mut span: Value, field: &str, value: Value) -> Value {
    span[field] = value;
    span
}

fn failed(span: Value) -> Value {
    with(span, "status", json!({"code": 2, "message": "boom"}))
}

fn request(spans: &[Value]) -> Vec<u8> {
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).to_string().into_bytes()
}

/// Returns the events of agents: all but those of spans that are nothing else.
fn read(spans: &[Value]) -> Vec<AgentEvent> {
    let mut events = read_all(spans);
    events.retain(|event| !matches!(event.event, Event::SpanFinished(_)));
    events
}

fn read_all(spans: &[Value]) -> Vec<AgentEvent> {
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    adapter.ingest(&request(spans), &mut |event| events.push(event)).unwrap();
    adapter.finish(&mut |event| events.push(event));
    events
}

fn finished(events: &[AgentEvent]) -> Vec<(&str, bool, bool)> {
    let tasks = events.iter().filter(|event| matches!(event.event, Event::TaskFinished(_)));
    tasks.map(|event| (event.agent.as_str(), event.event.outcome().unwrap(), event.is_incomplete())).collect()
}

fn first_tokens(events: &[AgentEvent]) -> Vec<f64> {
    let of = |event: &AgentEvent| match &event.event {
        Event::LlmCall(call) => call.first_token_ms,
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn each_dialect_hides_its_first_token_elsewhere() {
    let gen_ai = json!({"gen_ai.operation.name": "chat", "gen_ai.response.time_to_first_chunk": 0.25});
    let vercel = json!({"ai.operationId": "ai.streamText.doStream", "ai.response.msToFirstChunk": 120.5});
    let event = json!([{"name": "First Token Stream Event", "timeUnixNano": (START + 80_000_000).to_string()}]);
    let open_inference = with(
        span(4, 1, "llm", 10, 500, json!({"openinference.span.kind": "LLM", "llm.cost.total": 0.0125})),
        "events",
        event,
    );
    let root = span(1, 0, "root", 0, 900, json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}));
    let spans = [root, span(2, 1, "chat", 10, 400, gen_ai), span(3, 1, "do", 10, 300, vercel), open_inference];
    let events = read(&spans);
    assert_eq!(first_tokens(&events), [120.5, 250.0, 70.0], "in the order the calls ended");
    let cost = events.iter().find_map(|event| event.event.cost_usd());
    assert_eq!(cost, Some(Usd::from_nanos(12_500_000)));
}

#[test]
fn the_innermost_of_nested_model_calls_counts() {
    let call = |tokens: u32| json!({"openinference.span.kind": "LLM", "llm.token_count.prompt": tokens});
    let root = span(1, 0, "agent", 0, 900, json!({"openinference.span.kind": "AGENT"}));
    let events = read(&[root, span(2, 1, "wrapper", 1, 500, call(10)), span(3, 2, "client", 2, 400, call(10))]);
    let tokens: Vec<u64> = events
        .iter()
        .filter_map(|event| match &event.event {
            Event::LlmCall(call) => Some(call.input_tokens),
            _ => None,
        })
        .collect();
    assert_eq!(tokens, [10]);
}

#[test]
fn an_agent_called_by_an_agent_is_a_step_and_a_handoff() {
    let agent = |name: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name});
    let spans = [
        span(1, 0, "a", 0, 900, agent("a")),
        span(2, 1, "a again", 1, 899, agent("a")),
        span(3, 2, "b", 2, 800, agent("b")),
        failed(span(4, 3, "c", 3, 700, agent("c"))),
    ];
    let events = read(&spans);
    assert_eq!(finished(&events), [("a", true, false)], "the caller recovered from the failure");
    let handoffs: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.event {
            Event::Handoff(handoff) => Some((handoff.from.as_str(), handoff.to.as_str(), handoff.depth)),
            _ => None,
        })
        .collect();
    assert_eq!(handoffs, [("b", "c", 3), ("a", "b", 2)]);
    let steps = events.iter().filter(|event| matches!(event.event, Event::StepFinished(_))).count();
    assert_eq!(steps, 2, "the agent that repeats its parent is neither");
}

#[test]
fn in_plain_spans_the_root_is_the_task() {
    let client = |span: Value, host: &str| {
        let attribute = json!([{"key": "server.address", "value": {"stringValue": host}}]);
        with(with(span, "kind", json!(3)), "attributes", attribute)
    };
    let spans = [
        failed(span(1, 0, "POST /ask", 0, 900, json!({}))),
        client(span(2, 1, "POST", 10, 500, json!({})), "api.openai.com"),
        client(span(3, 1, "GET", 510, 520, json!({})), "weather.example"),
    ];
    let events = read(&spans);
    assert_eq!(finished(&events), [("shop", false, false)]);
    assert_eq!(events.iter().filter(|event| matches!(event.event, Event::LlmCall(_))).count(), 1);
    assert_eq!(events.iter().filter(|event| matches!(event.event, Event::HttpRequest(_))).count(), 1);
}

fn client(id: u32, parent: u32, from: u64, attributes: Value) -> Value {
    with(span(id, parent, "POST", from, from + 10, attributes), "kind", json!(3))
}

fn model_calls(events: &[AgentEvent]) -> Vec<&LlmCall> {
    events.iter().filter_map(|event| if let Event::LlmCall(call) = &event.event { Some(call) } else { None }).collect()
}

#[test]
fn a_request_to_a_remote_agent_is_a_step_that_fails_with_its_task() {
    let agent = |name: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name});
    let send = json!({"a2a.method.name": "SendMessage", "gen_ai.agent.name": "weather", "a2a.task.state": "TASK_STATE_FAILED"});
    let spans = [span(1, 0, "a", 0, 900, agent("planner")), client(2, 1, 10, send.clone())];
    let steps = |events: &[AgentEvent]| -> Vec<(String, bool)> {
        let of = |event: &AgentEvent| match &event.event {
            Event::StepFinished(step) => Some((step.name.clone(), step.success)),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    };
    let events = read(&spans);
    assert_eq!(steps(&events), [("weather".to_owned(), false)]);
    assert_eq!(finished(&events), [("planner", true, false)], "the caller recovered from the failure");
    let plain = [
        span(1, 0, "POST /ask", 0, 900, json!({})),
        client(2, 1, 10, send),
        client(3, 1, 30, json!({"server.address": "api.openai.com"})),
    ];
    let events = read(&plain);
    assert_eq!((steps(&events).len(), model_calls(&events).len()), (1, 1), "requests to models count, too");
}

#[test]
fn a_tool_call_keeps_the_id_that_the_model_gave_it() {
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"});
    let tool =
        json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t", "gen_ai.tool.call.id": "call_1"});
    let events = read(&[span(1, 0, "a", 0, 900, agent), span(2, 1, "t", 1, 2, tool)]);
    let ids: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::ToolCall(call) = &event.event { call.operation_id.as_deref() } else { None })
        .collect();
    assert_eq!(ids, ["call_1"]);
}

#[test]
fn two_agents_under_one_request_are_two_tasks() {
    let agent = |name: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name});
    let spans = [
        span(1, 0, "POST /ask", 0, 900, json!({})),
        span(2, 1, "a", 1, 400, agent("a")),
        failed(span(3, 1, "b", 401, 800, agent("b"))),
        span(4, 3, "chat", 402, 500, json!({"gen_ai.operation.name": "chat"})),
    ];
    let events = read(&spans);
    assert_eq!(finished(&events), [("a", true, false), ("b", false, false)]);
    let call = events.iter().find(|event| matches!(event.event, Event::LlmCall(_))).unwrap();
    assert_eq!(call.agent, "b");
}

#[test]
fn a_root_without_a_verdict_fails_with_its_last_model_call() {
    let root = || span(1, 0, "root", 0, 900, json!({"gen_ai.operation.name": "invoke_agent"}));
    let chat = |id: u32, to: u64| span(id, 1, "chat", 1, to, json!({"gen_ai.operation.name": "chat"}));
    assert_eq!(finished(&read(&[root(), failed(chat(2, 100)), chat(3, 200)])), [("shop", true, false)]);
    assert_eq!(finished(&read(&[root(), chat(2, 100), failed(chat(3, 200))])), [("shop", false, false)]);
}

#[test]
fn a_parent_in_another_process_makes_a_root_and_a_missing_one_an_incomplete_task() {
    let agent = span(2, 1, "a", 0, 900, json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}));
    assert_eq!(finished(&read(&[with(agent.clone(), "flags", json!(0x300))])), [("a", true, false)]);
    assert_eq!(finished(&read(&[with(agent, "flags", json!(0x100))])), [("a", false, true)]);
}

#[test]
fn a_trace_whose_root_never_comes_times_out() {
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let chat = span(2, 1, "chat", 0, 100, json!({"gen_ai.operation.name": "chat"}));
    adapter.ingest(&request(&[chat]), &mut |event| events.push(event)).unwrap();
    let start = Timestamp::from_nanos(START as i64);
    adapter.expire(start.saturating_add(std::time::Duration::from_secs(599)), &mut |event| events.push(event));
    assert!(events.is_empty());
    adapter.expire(start.saturating_add(std::time::Duration::from_secs(601)), &mut |event| events.push(event));
    assert_eq!(finished(&events), [("shop", false, true)]);
    let root = events[0].span_id.unwrap();
    assert_eq!(root.to_string(), "0000000000000001", "known from its child");
    assert_eq!(events[1].parent_span_id, Some(root));
}

/// A distributed trace may call the agent again, and exporters may be late.
#[test]
fn a_trace_goes_on_after_it_was_read() {
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"});
    let chat =
        |id: u32, parent: u32, to: u64| span(id, parent, "chat", to - 1, to, json!({"gen_ai.operation.name": "chat"}));
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let mut give = |spans: &[Value]| adapter.ingest(&request(spans), &mut |event| events.push(event)).unwrap();
    give(&[chat(2, 1, 100), span(1, 0, "first", 0, 900, agent.clone())]);
    give(&[chat(4, 3, 9_000)]);
    give(&[chat(5, 1, 500), failed(span(3, 0, "second", 8_000, 9_900, agent))]);
    adapter.finish(&mut |event| events.push(event));
    assert_eq!(finished(&events), [("a", true, false), ("a", false, false)]);
    let tasks: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.event, Event::LlmCall(_)))
        .map(|event| (u64::from_be_bytes(event.span_id.unwrap().to_bytes()), event.task.as_deref().unwrap()))
        .collect();
    let second = format!("{TRACE}-0000000000000003");
    assert_eq!(tasks, [(2, TRACE), (5, TRACE), (4, second.as_str())], "a late child stays with the first task");
}

/// An agent is called by another process, and calls one.
#[test]
fn every_span_is_an_event_that_has_it_as_it_was_recorded() {
    let ids = json!({"a2a.method.name": "SendMessage", "a2a.message.id": "m-1", "a2a.task.id": "t-1"});
    let spans = [
        with(with(span(1, 9, "SendMessage", 0, 1_000, ids), "kind", json!(2)), "flags", json!(0x300)),
        span(
            2,
            1,
            "invoke_agent a",
            10,
            900,
            json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}),
        ),
        span(3, 2, "chain", 20, 800, json!({})),
        span(4, 3, "chat", 30, 700, json!({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7})),
        failed(with(span(5, 4, "POST", 40, 600, json!({})), "kind", json!(3))),
    ];
    let mut found: Vec<Span> = read_all(&spans).iter().filter_map(Span::of).collect();
    found.sort_by_key(|span| span.span_id);
    let id = |number: u8| SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, number]);
    let of = |span: &Span| (span.parent_span_id, span.name.clone(), span.role, span.error.clone(), span.input_tokens);
    assert_eq!(
        found.iter().map(of).collect::<Vec<_>>(),
        [
            (id(9), "SendMessage".to_owned(), SpanRole::Server, None, 0),
            (id(1), "invoke_agent a".to_owned(), SpanRole::Internal, None, 0),
            (id(2), "chain".to_owned(), SpanRole::Internal, None, 0),
            (id(3), "chat".to_owned(), SpanRole::Internal, None, 7),
            (id(4), "POST".to_owned(), SpanRole::Client, Some("boom".to_owned()), 0),
        ]
    );
    assert!(found.iter().all(|span| span.service.as_deref() == Some("shop")));
    assert_eq!((found[0].call_id.as_deref(), found[0].task.as_deref()), (Some("m-1"), Some("t-1")));
    assert_eq!([&found[0].agent, &found[1].agent].map(Option::as_deref), [None, Some("a")]);
    assert_eq!(found[1].end.millis_since(found[1].start), 890.0);
}

#[test]
fn a_request_above_the_only_task_is_not_below_it() {
    let remote = json!({"a2a.method.name": "SendMessage"});
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"});
    let events =
        read(&[with(span(1, 0, "SendMessage", 0, 1_000, remote), "kind", json!(2)), span(2, 1, "a", 10, 900, agent)]);
    let request = events.iter().find(|event| matches!(event.event, Event::StepFinished(_))).unwrap();
    assert_eq!(request.parent_span_id, None);
}

/// Exporters send every few seconds, and several processes have parts of a trace.
#[test]
fn late_spans_wait_for_no_root_once_what_is_above_them_is_known() {
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let at = |seconds: u64| Timestamp::from_nanos(START as i64).saturating_add(Duration::from_secs(seconds));
    let chat = |id: u32, parent: u32| span(id, parent, "chat", 10, 20, json!({"gen_ai.operation.name": "chat"}));
    let agent = span(1, 0, "a", 0, 900, json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}));
    let served = with(mcp::method(6, 4, 2, "tools/list", "tools/list"), "flags", json!(0x300));
    let mut calls = Vec::new();
    for (second, spans) in [
        (0, vec![agent]),
        (6, vec![chat(4, 3), span(3, 1, "plan", 5, 25, json!({}))]),
        (12, vec![served, with(mcp::method(7, 8, 2, "tools/list", "tools/list"), "flags", json!(0x300))]),
        (18, vec![span(8, 4, "tools/list", 12, 18, json!({}))]),
        (24, vec![chat(5, 77)]),
        (640, vec![]),
    ] {
        adapter.expire(at(second), &mut |event| events.push(event));
        let limits = IngestLimits::live(at(second), Duration::from_secs(300));
        adapter.ingest_record(&request(&spans), &limits, &mut |event| events.push(event)).unwrap();
        adapter.expire(at(second + 3), &mut |event| events.push(event));
        calls.push((model_calls(&events).len(), events.len()));
    }
    // The start and the end of the task; the call and the plan; the requests, once the client of one is known; and the call whose
    // parent never came.
    assert_eq!(calls, [(0, 2), (1, 4), (1, 4), (1, 7), (1, 7), (2, 8)]);
    assert!(events.iter().all(|event| event.task.as_deref() == Some(TRACE)));
}

#[test]
fn a_span_that_cannot_be_is_rejected_and_counted() {
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"});
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let spans = [
        span(1, 0, "good", 0, 900, agent.clone()),
        span(2, 1, "backwards", 500, 400, agent.clone()),
        with(span(3, 1, "nobody", 1, 2, agent.clone()), "spanId", json!("")),
        with(span(4, 1, "never", 1, 2, agent.clone()), "endTimeUnixNano", json!("0")),
        with(span(6, 1, "zero", 1, 2, agent.clone()), "spanId", json!("0".repeat(16))),
        with(span(7, 1, "zero", 1, 2, agent.clone()), "traceId", json!("0".repeat(32))),
        span(5, 1, "refund", 1, 2, json!({"openinference.span.kind": "LLM", "llm.cost.total": -0.5})),
    ];
    adapter.ingest(&request(&spans), &mut |event| events.push(event)).unwrap();
    adapter.finish(&mut |event| events.push(event));
    assert_eq!(adapter.stats().rejected, 6);
    assert_eq!(finished(&events), [("a", true, false)]);
}

#[test]
fn evaluations_come_from_spans_and_from_logs() {
    let judged = json!({
        "openinference.span.kind": "LLM",
        "evaluations.0.evaluation.name": "hallucination", "evaluations.0.evaluation.label": "hallucinated",
        "annotations.0.annotation.name": "relevance", "annotations.0.annotation.score": 0.9,
    });
    let root = span(1, 0, "a", 0, 900, json!({"openinference.span.kind": "AGENT"}));
    let events = read(&[root, span(2, 1, "llm", 1, 2, judged)]);
    let outcomes = |events: &[AgentEvent]| -> Vec<(String, Option<bool>)> {
        let of = |event: &AgentEvent| match &event.event {
            Event::Evaluation(evaluation) => Some((evaluation.metric.clone(), event.event.outcome())),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    };
    let mut found = outcomes(&events);
    found.sort();
    // The same index in both lists is two evaluations, distinguished by their prefix.
    assert_eq!(found, [("hallucination".to_owned(), Some(false)), ("relevance".to_owned(), Some(true))]);

    let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
    let log = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{
        "eventName": "gen_ai.evaluation.result", "timeUnixNano": START.to_string(), "traceId": TRACE,
        "attributes": [
            attribute("gen_ai.evaluation.name", json!({"stringValue": "toxicity"})),
            attribute("gen_ai.evaluation.score.value", json!({"doubleValue": 0.8})),
        ],
    }]}]}]});
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    adapter.ingest(log.to_string().as_bytes(), &mut |event| events.push(event)).unwrap();
    assert_eq!(outcomes(&events), [("toxicity".to_owned(), Some(false))]);
    assert_eq!(events[0].task.as_deref(), Some(TRACE));
}

#[test]
fn evaluations_come_from_logs_as_protobuf_too() {
    let attribute = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    };
    let text = |text: &str| any_value::Value::StringValue(text.to_owned());
    let record = LogRecord {
        event_name: "gen_ai.evaluation.result".to_owned(),
        observed_time_unix_nano: START,
        attributes: vec![
            attribute("gen_ai.evaluation.name", text("hallucination")),
            attribute("gen_ai.evaluation.score.label", text("pass")),
        ],
        ..Default::default()
    };
    let other = LogRecord { time_unix_nano: START, ..Default::default() };
    let logs = ScopeLogs { log_records: vec![record, other], ..Default::default() };
    let resource = ResourceLogs { scope_logs: vec![logs], ..Default::default() };
    let body = ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec();
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let body = Body::new(BodyKind::Logs, body);
    let report = adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event)).unwrap();
    assert_eq!((report.accepted, report.unused), (1, 1));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.outcome(), Some(true));
    assert_eq!(adapter.stats().unknown, 1, "a log record that is not an evaluation is counted");
}
