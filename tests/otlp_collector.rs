//! Metrics and traces over HTTP and over gRPC, on loopback: to a server by others, and through a real OpenTelemetry collector, rotel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_sre::alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig};
use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::Limits;
use agent_sre::slo::SliRegistry;
use agent_sre::{EngineSettings, Runtime};
use mock_collector::{MockServer, ServerHandle, TestMetric, TestSpan};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric as MetricMessage, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use sre_core::{
    AgentEvent, Collect, EventSpan, ExponentialHistogram, ManualClock, Metric, MetricUnit, MetricValue, Resource,
    Secret, Timestamp,
};
use sre_exporter_otlp::{OtlpExporter, OtlpSettings, Protocol};
use sre_http::{Client, Options, Outbox, OutboxOptions};
use sre_testkit::{otlp, outside};

const EVENTS: [&str; 3] = [
    r#"{"event":"llm_call","time":1790000001.25,"agent":"support","task":"t","model":"gpt-4o-mini","input_tokens":1000,"output_tokens":50,"cost_usd":"0.0125","duration_ms":750}"#,
    r#"{"event":"tool_call","time":1790000002,"agent":"support","task":"t","tool":"search","success":false,"error":"not found","duration_ms":20}"#,
    r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","success":true,"duration_ms":3000}"#,
];

/// Ends with the test, however that ends.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Collector {
    /// Starts a collector that sends on to `sink` what it gets.
    fn start(program: &str, folder: &Path, sink: &str, http: u16, grpc: u16) -> Self {
        let child = Command::new(program)
            .arg("start")
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", sink])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--batch-timeout", "50ms"])
            .arg("--pid-file")
            .arg(folder.join("pid"))
            .arg("--log-file")
            .arg(folder.join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

struct Source;

impl Collect for Source {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let mut latency = ExponentialHistogram::new(3);
        [0.0, 0.5, 2.0].into_iter().for_each(|value| latency.record(value));
        emit(Metric::gauge("sre.slo.target", 0.95).with_unit(MetricUnit::Ratio).with_label("slo", "answers"));
        emit(Metric::counter("sre.cost", 7.5).with_unit(MetricUnit::Dollars));
        emit(Metric::histogram("sre.latency", latency).with_unit(MetricUnit::Seconds));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_takes_metrics_and_spans_over_http_and_grpc() {
    let Some(program) = rotel() else { return };
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let (folder, sink) = (tempfile::tempdir().unwrap(), sink(protocol_of_sink(Protocol::HttpProtobuf)).await);
        let (http, grpc) = (free_port(), free_port());
        let url = format!("http://{}", sink.addr());
        let _collector = Collector::start(&program, folder.path(), &url, http, grpc);
        send_and_read_back(protocol, if protocol == Protocol::Grpc { grpc } else { http }, &sink).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_read_by_another_implementation_of_otlp() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let sink = sink(protocol_of_sink(protocol)).await;
        send_and_read_back(protocol, sink.addr().port(), &sink).await;
    }
}

/// Metrics of every engine, and the trace of the last bad event, as they leave a real collector.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_passes_on_the_metrics_of_every_engine_and_the_trace_of_a_bad_event() {
    let Some(program) = rotel() else { return };
    let (folder, sink) = (tempfile::tempdir().unwrap(), sink(mock_collector::Protocol::HttpBinary).await);
    let (http, grpc) = (free_port(), free_port());
    let url = format!("http://{}", sink.addr());
    let _collector = Collector::start(&program, folder.path(), &url, http, grpc);
    let (runtime, last) = tokio::task::spawn_blocking(move || run_engines(http)).await.unwrap();
    let mut expected: BTreeSet<Point> = BTreeSet::new();
    runtime.metrics(NOW, &mut |metric| expected.extend(Point::expected(&metric)));
    for engine in ENGINES {
        assert!(expected.iter().any(|point| point.name.starts_with(engine)), "{engine} in {expected:#?}");
    }
    let begun = Instant::now();
    let metrics = loop {
        let metrics: Vec<MetricMessage> =
            sink.with_collector(|collector| collector.metrics().iter().map(|one| one.metric().clone()).collect()).await;
        let arrived: BTreeSet<Point> = metrics.iter().flat_map(Point::arrived).collect();
        let missing: Vec<&Point> = expected.difference(&arrived).collect();
        if missing.is_empty() {
            break metrics;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{missing:#?} of {arrived:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let bad = EventSpan::of(&last).unwrap();
    let window_events = metrics.iter().find(|metric| metric.name == "sre.slo.window_events").unwrap();
    let exemplars = points(window_events).iter().flat_map(|point| &point.exemplars);
    let traces: Vec<&[u8]> = exemplars.map(|exemplar| &*exemplar.trace_id).collect();
    assert!(traces.contains(&&bad.trace_id.to_bytes()[..]), "{window_events:#?}");
    sink.wait_for_spans(1, Duration::from_secs(30)).await.unwrap();
    let spans: Vec<Vec<u8>> = sink
        .with_collector(|collector| collector.spans().iter().map(|one| one.span().trace_id.clone()).collect())
        .await;
    assert!(spans.contains(&bad.trace_id.to_bytes().to_vec()), "the trace that the exemplar links to");
    tokio::task::spawn_blocking(move || runtime.shutdown()).await.unwrap();
}

/// What the names of the metrics of each engine begin with.
const ENGINES: [&str; 5] = ["sre.slo.", "sre.breaker.", "sre.cascade.", "sre.cost.", "sre.alerts"];

const NOW: Timestamp = Timestamp::from_secs(1_790_000_010);

/// Runs engines on tasks of which every one fails, and sends their results. Returns them and the last event.
fn run_engines(port: u16) -> (Runtime, AgentEvent) {
    let clock = Arc::new(ManualClock::new(NOW));
    let slos = "name: answers\nindicators: [{type: task_success_rate, target: 0.9}]\n";
    let settings = EngineSettings {
        clock: clock.clone(),
        slos: agent_sre::slo::parse(slos, "slos", &SliRegistry::default()).unwrap(),
        breakers: Some(DetectorConfig::parse("recovery_timeout: 10m\n", "breakers").unwrap()),
        limits: Some(Limits::parse("per_agent_daily: 10\n", "limits").unwrap()),
        ..EngineSettings::default()
    };
    let alerts = Arc::new(AlertManager::new(AlertOptions { clock: clock.clone(), ..AlertOptions::default() }).unwrap());
    alerts.add_channel(CallbackChannel::new("receiver", |_| {}), ChannelConfig::default()).unwrap();
    let exporter = OtlpExporter::new(OtlpSettings::new(format!("http://127.0.0.1:{port}"))).unwrap();
    let http = Arc::new(Client::new(Options::default()).unwrap());
    let options = OutboxOptions { collect_clock: Some(clock), ..OutboxOptions::default() };
    let runtime = Runtime::builder().engines(&settings).unwrap().handle("alerts", alerts.clone()).collect(alerts);
    let runtime = runtime.export(Arc::new(exporter), http, options).build().unwrap();
    let event = |fields: &str| {
        let line = format!(r#"{{"time":1790000005,"agent":"worker",{fields}}}"#);
        AgentEvent::from_json(line.as_bytes()).unwrap()
    };
    runtime.record(event(r#""event":"handoff","from":"chief","to":"worker","depth":1"#));
    runtime.record(event(r#""event":"llm_call","model":"m","cost_usd":"0.5""#));
    let failed = |task| event(&format!(r#""event":"task_finished","task":"{task}","success":false,"error":"gave up""#));
    for task in 0..5 {
        runtime.record(event(r#""event":"tool_call","tool":"search","success":false,"error":"down""#));
        runtime.record(failed(task));
        let mut of_chief = failed(task);
        of_chief.agent = "chief".into();
        runtime.record(of_chief);
    }
    runtime.evaluate(NOW);
    assert!(runtime.flush(Duration::from_secs(30)), "the handlers are done");
    let outbox = &runtime.exporters()[0];
    assert!(outbox.flush(Duration::from_secs(60)), "{:?}", outbox.stats());
    let stats = outbox.stats();
    for counts in [&stats.events, &stats.state] {
        assert_eq!((counts.sent + counts.ignored, counts.dropped.len()), (counts.received, 0), "{stats:#?}");
    }
    (runtime, failed(4))
}

/// A data point of an engine's metric.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    name: String,
    labels: BTreeMap<String, String>,
    value: String,
}

impl Point {
    /// Returns the point of an engine's metric.
    fn expected(metric: &Metric<'_>) -> Option<Self> {
        let (MetricValue::Gauge(value) | MetricValue::Counter(value)) = metric.value else { return None };
        let is_of_engine = ENGINES.iter().any(|engine| metric.name.starts_with(engine));
        let labels = metric.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        is_of_engine.then(|| Self { name: metric.name.to_string(), labels, value: value.to_string() })
    }

    fn arrived(metric: &MetricMessage) -> Vec<Self> {
        let label = |attribute: &KeyValue| {
            let value = otlp::attribute(std::slice::from_ref(attribute), &attribute.key).unwrap();
            (attribute.key.clone(), value.as_str().unwrap().to_owned())
        };
        let point = |point: &NumberDataPoint| {
            let Some(number_data_point::Value::AsDouble(value)) = point.value else { panic!("{point:?}") };
            let labels = point.attributes.iter().map(label).collect();
            Self { name: metric.name.clone(), labels, value: value.to_string() }
        };
        points(metric).iter().map(point).collect()
    }
}

fn points(metric: &MetricMessage) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        Some(Data::Sum(sum)) => &sum.data_points,
        _ => &[],
    }
}

/// Returns the path of the collector, if it is installed.
fn rotel() -> Option<String> {
    let mut python = outside::python_with("rotel", "otlp_collector")?;
    let find = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let path = String::from_utf8(python.args(["-c", find]).output().unwrap().stdout).unwrap();
    Some(path.trim().to_owned())
}

/// Starts a server that keeps what it gets.
async fn sink(protocol: mock_collector::Protocol) -> ServerHandle {
    MockServer::builder().protocol(protocol).start().await.unwrap()
}

fn protocol_of_sink(protocol: Protocol) -> mock_collector::Protocol {
    match protocol {
        Protocol::Grpc => mock_collector::Protocol::Grpc,
        _ => mock_collector::Protocol::HttpBinary,
    }
}

/// Sends events and metrics to a port, and checks what arrives at the sink.
async fn send_and_read_back(protocol: Protocol, port: u16, sink: &ServerHandle) {
    let events: Vec<AgentEvent> = EVENTS.iter().map(|line| AgentEvent::from_json(line.as_bytes()).unwrap()).collect();
    let sent = events.clone();
    tokio::task::spawn_blocking(move || send(protocol, port, sent)).await.unwrap();
    let (spans, metrics) = read_back(sink).await;
    check_spans(&spans, &events);
    check_metrics(&metrics);
}

/// Sends by an outbox, which tries again until the collector listens.
fn send(protocol: Protocol, port: u16, events: Vec<AgentEvent>) {
    let settings = OtlpSettings::new(format!("http://127.0.0.1:{port}"))
        .with_protocol(protocol)
        .with_header("api-key", Secret::new("key"));
    let exporter = Arc::new(OtlpExporter::new(settings).unwrap());
    let options = OutboxOptions {
        collect: vec![Arc::new(Source)],
        resource: Resource::new("otlp-test").with("deployment.environment.name", "test"),
        ..Default::default()
    };
    let outbox = Outbox::start(exporter, Arc::new(Client::new(Options::default()).unwrap()), options).unwrap();
    events.into_iter().for_each(|event| outbox.push(Arc::new(event)));
    assert!(outbox.flush(Duration::from_secs(60)), "{:?}", outbox.stats());
    let stats = outbox.stats();
    assert_eq!((stats.events.sent, stats.state.sent), (3, 3), "{stats:?}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns what has arrived, once it is all there.
async fn read_back(sink: &ServerHandle) -> (Vec<Span>, Vec<MetricMessage>) {
    let timeout = Duration::from_secs(30);
    sink.wait_for_spans(EVENTS.len(), timeout).await.unwrap();
    sink.wait_for_metrics(3, timeout).await.unwrap();
    sink.with_collector(|collector| {
        let (spans, metrics) = (collector.spans(), collector.metrics());
        let of_spans = spans.iter().map(TestSpan::resource_attrs);
        let resources = of_spans.chain(metrics.iter().map(TestMetric::resource_attrs));
        for attributes in resources {
            assert_eq!(otlp::attribute(attributes, "service.name"), Some("otlp-test".into()));
        }
        let spans = spans.iter().map(|span| span.span().clone()).collect();
        (spans, metrics.iter().map(|metric| metric.metric().clone()).collect())
    })
    .await
}

fn check_spans(spans: &[Span], events: &[AgentEvent]) {
    assert_eq!(spans.len(), events.len());
    for (event, name) in events.iter().zip(["chat gpt-4o-mini", "execute_tool search", "invoke_agent support"]) {
        let expected = EventSpan::of(event).unwrap();
        let span = spans.iter().find(|span| span.span_id == expected.span_id.to_bytes()).unwrap();
        assert_eq!(span.name, name);
        assert_eq!(span.trace_id, expected.trace_id.to_bytes());
        assert_eq!(span.parent_span_id, expected.parent_span_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default());
        assert_eq!(span.start_time_unix_nano, expected.start.as_nanos().cast_unsigned());
        assert_eq!(span.end_time_unix_nano, expected.end.as_nanos().cast_unsigned());
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code), if expected.error.is_some() { 2 } else { 0 });
    }
    let call = spans.iter().find(|span| span.name.starts_with("chat")).unwrap();
    let value = |key: &str| {
        let attribute = call.attributes.iter().find(|attribute| attribute.key == key).unwrap();
        attribute.value.clone().unwrap().value.unwrap()
    };
    assert_eq!(value("gen_ai.usage.input_tokens"), Value::IntValue(1_000));
    assert_eq!(value("gen_ai.usage.output_tokens"), Value::IntValue(50));
    assert_eq!(value("gen_ai.usage.cost"), Value::DoubleValue(0.0125));
}

fn check_metrics(metrics: &[MetricMessage]) {
    let find = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Gauge(gauge)) = &find("sre.slo.target").data else { panic!("{metrics:?}") };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.95)));
    assert_eq!(gauge.data_points[0].attributes[0].key, "slo");
    let cost = find("sre.cost");
    let Some(Data::Sum(sum)) = &cost.data else { panic!("{metrics:?}") };
    assert_eq!((cost.unit.as_str(), sum.is_monotonic, sum.aggregation_temporality), ("{USD}", true, 2));
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(7.5)));
    let Some(Data::ExponentialHistogram(histogram)) = &find("sre.latency").data else { panic!("{metrics:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.zero_count, point.sum, point.scale), (3, 1, Some(2.5), 3));
    assert_eq!(point.positive.as_ref().unwrap().bucket_counts.iter().sum::<u64>(), 2);
}
