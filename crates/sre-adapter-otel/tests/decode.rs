//! How bodies are decoded: the order of fields, what is invalid, and how much memory records may take.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use sre_adapter_otel::{OtelAdapter, data_points};
use sre_core::adapter::{AdapterError, Body, BodyKind, IngestLimits, IngestReport};
use sre_core::{Adapter, AgentEvent};

const START: u64 = 1_790_000_000_000_000_000;

fn ingest(kind: BodyKind, body: impl Into<Vec<u8>>) -> Result<(IngestReport, Vec<AgentEvent>), AdapterError> {
    let (mut adapter, mut events) = (OtelAdapter::default(), Vec::new());
    let body = adapter.decoder().unwrap()(Body::new(kind, body.into()))?;
    let report = adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event))?;
    adapter.finish(&mut |event| events.push(event));
    Ok((report, events))
}

fn span(number: u64) -> Span {
    let id = [&[7; 8][..], &number.to_be_bytes()].concat();
    let times = (START, START + 1_000_000_000);
    Span {
        trace_id: id,
        span_id: number.to_be_bytes().to_vec(),
        start_time_unix_nano: times.0,
        end_time_unix_nano: times.1,
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[test]
fn a_resource_names_its_service_also_after_its_spans() {
    // In protobuf, parts of a message that come one after the other are merged.
    let attributes = vec![text("service.name", "support")];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let mut merged = request(vec![span(1)]).resource_spans[0].encode_to_vec();
    merged.extend(ResourceSpans { resource, ..ResourceSpans::default() }.encode_to_vec());
    let body = [&[0x0a, merged.len() as u8][..], &merged].concat();
    let (_, events) = ingest(BodyKind::Traces, body).unwrap();
    assert_eq!(events[0].agent, "support");

    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "support"}}]});
    let span = json!({"traceId": format!("{:032x}", 1), "spanId": format!("{:016x}", 1),
        "startTimeUnixNano": START, "endTimeUnixNano": START});
    let log = json!({"eventName": "gen_ai.evaluation.result", "timeUnixNano": START, "attributes": [
        {"key": "gen_ai.evaluation.name", "value": {"stringValue": "m"}},
        {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 1}}]});
    for (list, scopes) in [
        ("resourceSpans", format!(r#""scopeSpans":[{{"spans":[{span}]}}]"#)),
        ("resourceLogs", format!(r#""scopeLogs":[{{"logRecords":[{log}]}}]"#)),
    ] {
        for fields in [format!(r#""resource":{resource},{scopes}"#), format!(r#"{scopes},"resource":{resource}"#)] {
            let body = format!(r#"{{"{list}":[{{{fields}}},{{{scopes}}}]}}"#);
            let (_, events) = ingest(BodyKind::Traces, body).unwrap();
            let agents = |agent: &str| events.iter().filter(|event| event.agent == agent).count();
            assert!(agents("support") > 0, "{list}: {events:?}");
            assert_eq!(agents("default"), usize::from(list == "resourceLogs"), "the other resource names none");
        }
    }
}

/// JSON has one kind of number.
#[test]
fn whole_numbers_may_be_written_as_fractions() {
    let body = |start: &str, kind: &str, flags: &str| {
        format!(
            r#"{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{"traceId": "{:032x}", "spanId": "{:016x}", "name": "chat",
                "startTimeUnixNano": {start}, "endTimeUnixNano": {START}, "kind": {kind}, "flags": {flags}}}]}}]}}]}}"#,
            1, 1
        )
    };
    let read = |body: String| ingest(BodyKind::Traces, body).map(|(report, _)| report);
    assert_eq!(read(body("1.79e18", "3.0", "1.0")).unwrap(), read(body(&START.to_string(), "3", "1")).unwrap());
    for (start, kind, flags) in [
        ("0.5", "3", "1"),
        ("-1.0", "3", "1"),
        ("18446744073709551616", "3", "1"),
        ("1.0", "3.5", "1"),
        ("1.0", "-9223372036854775809", "1"),
        ("1.0", "3", "5e9"),
    ] {
        assert!(read(body(start, kind, flags)).is_err(), "{start} {kind} {flags}");
    }
}

#[test]
fn a_body_whose_records_take_much_more_memory_than_its_text_is_refused() {
    let of_spans = |count: u64| request((1..=count).map(span).collect()).encode_to_vec();
    assert_eq!(ingest(BodyKind::Traces, of_spans(3_000)).unwrap().0.accepted, 3_000);
    let error = ingest(BodyKind::Traces, of_spans(60_000)).unwrap_err();
    assert!(matches!(error, AdapterError::TooLarge { .. }), "{error}");
    // Spans as exporters send them are larger.
    let named = |number| Span {
        name: "GET /v1/orders/{id}".to_owned(),
        attributes: vec![text("http.request.method", "GET"), text("server.address", "orders.example")],
        ..span(number)
    };
    let body = request((1..=60_000).map(named).collect()).encode_to_vec();
    assert_eq!(ingest(BodyKind::Traces, body).unwrap().0.accepted, 60_000);
    // The name of a service is copied to each of its evaluations.
    let log = json!({"eventName": "gen_ai.evaluation.result", "timeUnixNano": START, "attributes": [
        {"key": "gen_ai.evaluation.name", "value": {"stringValue": "m"}},
        {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 1}}]});
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "s".repeat(1 << 20)}}]});
    let scopes = format!(r#""scopeLogs":[{{"logRecords":[{}{log}]}}]"#, format!("{log},").repeat(100));
    for fields in [format!(r#""resource":{resource},{scopes}"#), format!(r#"{scopes},"resource":{resource}"#)] {
        let error = ingest(BodyKind::Logs, format!(r#"{{"resourceLogs":[{{{fields}}}]}}"#)).unwrap_err();
        assert!(matches!(error, AdapterError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn the_first_of_duplicate_attributes_counts_and_too_many_evaluations_are_rejected() {
    let with = |attributes| ingest(BodyKind::Traces, request(vec![Span { attributes, ..span(1) }]).encode_to_vec());
    let model = |name| text("gen_ai.request.model", name);
    let (_, events) = with(vec![text("gen_ai.operation.name", "chat"), model("first"), model("second")]).unwrap();
    let models: Vec<Value> =
        events.iter().map(|event| json!(event)["model"].clone()).filter(Value::is_string).collect();
    assert_eq!(models, ["first"]);
    let evaluation = |number: usize| {
        [text(&format!("evaluations.{number}.evaluation.name"), "m"), text(&format!("evaluations.{number}.score"), "1")]
    };
    assert_eq!(with((0..1_000).flat_map(evaluation).collect()).unwrap().0.rejected, 0);
    assert_eq!(with((0..1_001).flat_map(evaluation).collect()).unwrap().0.rejected, 1);
}

#[test]
fn data_points_are_counted_and_other_values_are_not_metrics() {
    let points = |kind: &str, count: usize| {
        let points = vec![json!({}); count];
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "n", kind: {"dataPoints": points}}]}]}]})
    };
    for kind in ["gauge", "sum", "histogram", "exponentialHistogram", "summary"] {
        assert_eq!(data_points(points(kind, 3).to_string().as_bytes()).unwrap(), 3);
    }
    assert_eq!(data_points(points("other", 3).to_string().as_bytes()).unwrap(), 0);
    // A request with a resource, a scope, and in it metrics with each kind of data, of two points each.
    for kind in [5, 7, 9, 10, 11] {
        let metric = [kind << 3 | 2, 4, 0x0a, 0, 0x0a, 0];
        let scope = [&[0x12, metric.len() as u8][..], &metric].concat().repeat(2);
        let resource = [&[0x12, scope.len() as u8][..], &scope].concat();
        let body = [&[0x0a, resource.len() as u8][..], &resource].concat();
        assert_eq!(data_points(&body).unwrap(), 4);
    }
    assert_eq!((data_points(b"").unwrap(), data_points(b"{}").unwrap()), (0, 0));
    for body in
        [&b"[null,null]"[..], b"[]", b"{\"resourceMetrics\":{}}", b"{\"resourceMetrics\":[1]}", b"\x0a\x05", b"{} {}"]
    {
        assert!(data_points(body).is_err(), "{body:?}");
    }
}

/// The first byte of a request in protobuf is a line feed, and the next its length, which may be a brace or a quote.
#[test]
fn a_protobuf_body_of_any_length_is_not_taken_for_json() {
    for length in 60..200 {
        let named = Span { name: "n".repeat(length), ..span(1) };
        assert_eq!(ingest(BodyKind::Traces, request(vec![named]).encode_to_vec()).unwrap().0.accepted, 1, "{length}");
    }
    let json = "\n{\n \"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [{}]}]}]}";
    for spaces in 0..200 {
        let (report, _) = ingest(BodyKind::Traces, format!("{json}{}", " ".repeat(spaces))).unwrap();
        assert_eq!(report.rejected, 1, "{spaces} spaces");
    }
}

proptest! {
    #[test]
    fn spans_are_accepted_as_prost_reads_them(
        spans in prop::collection::vec((0..3u64, 0..3u64, any::<bool>(), ".{0,5}", 0..4i32, 0..3u64, any::<bool>()), 0..8)
    ) {
        let spans: Vec<Span> = spans.into_iter().map(|(id, parent, is_trace, name, kind, end, has_attribute)| Span {
            trace_id: vec![u8::from(is_trace); 16],
            span_id: if id == 2 { Vec::new() } else { id.to_be_bytes().to_vec() },
            parent_span_id: parent.to_be_bytes().to_vec(),
            name: name.clone(),
            kind,
            end_time_unix_nano: START + 1 - end,
            attributes: if has_attribute { vec![text(&name, &name)] } else { Vec::new() },
            ..span(1)
        }).collect();
        let valid = spans.iter().filter(|span| {
            span.trace_id != [0; 16] && span.span_id.len() == 8 && span.span_id != [0; 8]
                && span.end_time_unix_nano >= span.start_time_unix_nano
        });
        let (accepted, all) = (valid.count() as u64, spans.len() as u64);
        let body = request(spans).encode_to_vec();
        let (report, _) = ingest(BodyKind::Traces, body.clone()).unwrap();
        prop_assert_eq!((report.accepted, report.rejected), (accepted, all - accepted));
        for cut in 0..body.len() {
            let is_valid = ExportTraceServiceRequest::decode(&body[..cut]).is_ok();
            prop_assert_eq!(ingest(BodyKind::Traces, &body[..cut]).is_ok(), is_valid, "cut after {} bytes", cut);
        }
    }
}
