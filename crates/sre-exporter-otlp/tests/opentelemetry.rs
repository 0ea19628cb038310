//! Lays what is sent beside what the crate `opentelemetry-otlp` sends for the same metrics and spans.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue as Attribute;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar as ExemplarMessage, Metric as MetricMessage, NumberDataPoint, number_data_point,
};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use prost::Message;
use sre_core::{
    AgentEvent, EventSpan, Exemplar, ExponentialHistogram, ExportBatch, Exporter, HttpClient, HttpError, Metric,
    MetricUnit, Resource, Timestamp,
};
use sre_exporter_otlp::{OtlpExporter, OtlpSettings};
use sre_testkit::otlp;

const AT: Timestamp = Timestamp::from_secs(1_790_000_100);

/// Keeps the bodies of requests, and accepts them.
#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Vec<Bytes>>>);

impl Sink {
    fn accept(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.0.lock().unwrap().push(request.into_body());
        Response::new(Bytes::new())
    }

    fn first(&self) -> Bytes {
        self.0.lock().unwrap()[0].clone()
    }
}

#[async_trait]
impl HttpClient for Sink {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(self.accept(request))
    }
}

#[async_trait]
impl opentelemetry_http::HttpClient for Sink {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
        Ok(self.accept(request))
    }
}

fn events() -> Vec<Arc<AgentEvent>> {
    let lines = [
        r#"{"event":"llm_call","time":1790000001.25,"agent":"support","task":"t","model":"gpt-4o-mini","provider":"openai","input_tokens":1000,"cached_input_tokens":200,"output_tokens":50,"cost_usd":"0.0125","duration_ms":750,"first_token_ms":120,"attributes":{"team":"support"}}"#,
        r#"{"event":"tool_call","time":1790000002,"agent":"support","task":"t","tool":"search","success":false,"error":"not found","duration_ms":20}"#,
        r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","success":true,"duration_ms":3000}"#,
    ];
    lines.iter().map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap())).collect()
}

/// Sends the events, or the metrics, with this crate. Returns the body.
async fn ours(events: &[Arc<AgentEvent>], metrics: &[Metric<'static>]) -> Bytes {
    let exporter = OtlpExporter::new(OtlpSettings::new("http://127.0.0.1:4318")).unwrap();
    let (sink, resource) = (Sink::default(), Resource::new("support").with("host.name", "h"));
    let batch = ExportBatch::new(AT, &resource).with_state(metrics, &[]).with_events(events);
    exporter.export(&batch, &sink).await.unwrap();
    sink.first()
}

fn their_resource() -> opentelemetry_sdk::Resource {
    let attributes = [KeyValue::new("service.name", "support"), KeyValue::new("host.name", "h")];
    opentelemetry_sdk::Resource::builder_empty().with_attributes(attributes).build()
}

fn their_scope() -> InstrumentationScope {
    InstrumentationScope::builder("agent-sre").with_version(env!("CARGO_PKG_VERSION")).build()
}

fn metrics(exemplar: Option<Exemplar>) -> [Metric<'static>; 4] {
    let mut latency = ExponentialHistogram::new(3);
    [0.0, 0.3, 1.7].into_iter().for_each(|value| latency.record(value));
    let target =
        |slo, value| Metric::gauge("sre.slo.target", value).with_unit(MetricUnit::Ratio).with_label("slo", slo);
    [
        target("answers", 0.95).with_help("Target share.").with_exemplar(exemplar),
        target("tools", 0.9).with_help("Target share."),
        Metric::counter("sre.cost", 7.5).with_unit(MetricUnit::Dollars).with_label("agent", "support"),
        Metric::histogram("sre.latency", latency).with_unit(MetricUnit::Seconds).with_label("agent", "support"),
    ]
}

/// Records the metrics of [`metrics`] with OpenTelemetry's instruments. Returns the body that its exporter sends.
fn their_metrics() -> Bytes {
    let sink = Sink::default();
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(sink.clone())
        .build()
        .unwrap();
    let exponential = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 3, record_min_max: false };
    let view = move |instrument: &Instrument| {
        let is_histogram = instrument.kind() == InstrumentKind::Histogram;
        is_histogram.then(|| Stream::builder().with_aggregation(exponential.clone()).build().unwrap())
    };
    let provider = SdkMeterProvider::builder().with_resource(their_resource()).with_view(view);
    let provider = provider.with_periodic_exporter(exporter).build();
    let meter = provider.meter_with_scope(their_scope());
    let target = meter.f64_gauge("sre.slo.target").with_unit("1").with_description("Target share.").build();
    target.record(0.95, &[KeyValue::new("slo", "answers")]);
    target.record(0.9, &[KeyValue::new("slo", "tools")]);
    let agent = [KeyValue::new("agent", "support")];
    meter.f64_counter("sre.cost").with_unit("{USD}").build().add(7.5, &agent);
    let latency = meter.f64_histogram("sre.latency").with_unit("s").build();
    [0.0, 0.3, 1.7].into_iter().for_each(|value| latency.record(value, &agent));
    provider.force_flush().unwrap();
    sink.first()
}

fn sort(attributes: &mut [Attribute]) {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}

fn points(metric: &mut MetricMessage) -> &mut [NumberDataPoint] {
    match metric.data.as_mut().unwrap() {
        Data::Gauge(gauge) => &mut gauge.data_points,
        Data::Sum(sum) => &mut sum.data_points,
        _ => &mut [],
    }
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// Removes what differs in each run, or is not ordered: times are those of the clock in OpenTelemetry's SDK.
fn comparable(mut request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    let of_resource = &mut request.resource_metrics[0];
    sort(&mut of_resource.resource.as_mut().unwrap().attributes);
    let metrics = &mut of_resource.scope_metrics[0].metrics;
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    for metric in metrics {
        for point in points(metric) {
            (point.start_time_unix_nano, point.time_unix_nano) = (0, 0);
        }
        points(metric).sort_by(|a, b| value(a).total_cmp(&value(b)));
        if let Some(Data::ExponentialHistogram(histogram)) = &mut metric.data {
            let point = &mut histogram.data_points[0];
            (point.start_time_unix_nano, point.time_unix_nano) = (0, 0);
            // Without negative values, the message is empty or missing.
            point.negative = point.negative.take().filter(|buckets| !buckets.bucket_counts.is_empty());
        }
    }
    request
}

#[tokio::test]
async fn metrics_are_the_messages_of_opentelemetry_otlp() {
    let exemplar = Exemplar::of(&events()[1]).unwrap();
    let mut sent = comparable(otlp::compressed_metrics_request(&ours(&[], &metrics(Some(exemplar))).await));
    // The SDK has no exemplars; ours is that of the protocol.
    let of_target = &mut sent.resource_metrics[0].scope_metrics[0].metrics[2];
    let found: Vec<ExemplarMessage> =
        points(of_target).iter_mut().flat_map(|point| std::mem::take(&mut point.exemplars)).collect();
    let expected = ExemplarMessage {
        time_unix_nano: 1_790_000_002_000_000_000,
        span_id: exemplar.span_id.to_bytes().to_vec(),
        trace_id: exemplar.trace_id.to_bytes().to_vec(),
        value: Some(Value::AsDouble(1.0)),
        ..ExemplarMessage::default()
    };
    assert_eq!(found, [expected]);
    assert_eq!(sent, comparable(ExportMetricsServiceRequest::decode(their_metrics()).unwrap()));
}

/// Returns the span of an event, as a program would create it with OpenTelemetry's SDK, which has no method to end a span in
/// the past.
fn their_span(event: &AgentEvent, name: &'static str, kind: SpanKind, attributes: Vec<KeyValue>) -> SpanData {
    let span = EventSpan::of(event).unwrap();
    let time = |time: Timestamp| -> SystemTime { UNIX_EPOCH + Duration::from_nanos(time.as_nanos().cast_unsigned()) };
    let context = SpanContext::new(
        opentelemetry::TraceId::from_bytes(span.trace_id.to_bytes()),
        opentelemetry::SpanId::from_bytes(span.span_id.to_bytes()),
        TraceFlags::default(),
        false,
        TraceState::NONE,
    );
    let parent = span.parent_span_id.map(|id| opentelemetry::SpanId::from_bytes(id.to_bytes()));
    SpanData {
        span_context: context,
        parent_span_id: parent.unwrap_or(opentelemetry::SpanId::INVALID),
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time: time(span.start),
        end_time: time(span.end),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, |error| Status::error(error.to_owned())),
        instrumentation_scope: their_scope(),
    }
}

async fn their_spans(events: &[Arc<AgentEvent>]) -> Bytes {
    let of_all = |operation: &'static str| {
        vec![
            KeyValue::new("gen_ai.agent.name", "support"),
            KeyValue::new("sre.task", "t"),
            KeyValue::new("gen_ai.operation.name", operation),
        ]
    };
    let call = [
        of_all("chat"),
        vec![
            KeyValue::new("gen_ai.request.model", "gpt-4o-mini"),
            KeyValue::new("gen_ai.response.model", "gpt-4o-mini"),
            KeyValue::new("gen_ai.provider.name", "openai"),
            KeyValue::new("gen_ai.usage.input_tokens", 1_000_i64),
            KeyValue::new("gen_ai.usage.cache_read.input_tokens", 200_i64),
            KeyValue::new("gen_ai.usage.output_tokens", 50_i64),
            KeyValue::new("gen_ai.usage.cost", 0.0125),
            KeyValue::new("gen_ai.response.time_to_first_chunk", 0.12),
            KeyValue::new("team", "support"),
        ],
    ];
    let tool = [
        of_all("execute_tool"),
        vec![KeyValue::new("gen_ai.tool.name", "search"), KeyValue::new("error.type", "_OTHER")],
    ];
    let spans = vec![
        their_span(&events[0], "chat gpt-4o-mini", SpanKind::Client, call.concat()),
        their_span(&events[1], "execute_tool search", SpanKind::Internal, tool.concat()),
        their_span(&events[2], "invoke_agent support", SpanKind::Internal, of_all("invoke_agent")),
    ];
    let sink = Sink::default();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(sink.clone())
        .build()
        .unwrap();
    exporter.set_resource(&their_resource());
    exporter.export(spans).await.unwrap();
    sink.first()
}

#[tokio::test]
async fn spans_are_the_messages_of_opentelemetry_otlp() {
    let events = events();
    let mut sent = otlp::compressed_trace_request(&ours(&events, &[]).await);
    let mut theirs = ExportTraceServiceRequest::decode(their_spans(&events).await).unwrap();
    for request in [&mut sent, &mut theirs] {
        let of_resource = &mut request.resource_spans[0];
        sort(&mut of_resource.resource.as_mut().unwrap().attributes);
        for span in &mut of_resource.scope_spans[0].spans {
            sort(&mut span.attributes);
            // Flags say that the parent is of the same process, which is not known of an event.
            span.flags = 0;
            // A status that is not set is an empty message there.
            span.status = span.status.take().filter(|status| status.code != 0);
        }
    }
    assert_eq!(sent, theirs);
}
