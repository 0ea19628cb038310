//! Ingest throughput of `sre serve`, from another process over loopback. Prints its figures, and writes them to
//! `target/bench-serve.json` for `cargo xtask bench`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::json;
use sre_adapter_otel::OtelAdapter;
use sre_core::adapter::{Adapter, Body, BodyKind};

#[path = "serve/hanging_exporter.rs"]
mod hanging_exporter;
#[path = "serve/many_objectives.rs"]
mod many_objectives;

/// Number of spans per body.
const SPANS: usize = 1_000;
const AGENTS: u64 = 1_000;
const OBJECTIVES: usize = 200;
const CONNECTIONS: usize = 4;
/// A placeholder for an agent's name, of the same length.
const AGENT: &str = "support";

/// A body that is reused by overwriting its ids and names in place.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    /// The offsets of each trace's ids and of its agent's name.
    traces: Vec<(Vec<usize>, Vec<usize>)>,
}

impl Template {
    /// Returns a body of spans from the recording of the Vercel AI SDK, moved to the current time.
    fn new() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/otlp-vercel-ai/long_mixed.0.bin");
        let recorded =
            ExportTraceServiceRequest::decode(&*std::fs::read(path).expect("a recording")).expect("a request");
        let resource = recorded.resource_spans[0].clone();
        let recorded: Vec<Span> = resource.scope_spans.iter().flat_map(|scope| scope.spans.clone()).collect();
        let first = recorded.iter().map(|span| span.start_time_unix_nano).min().unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_nanos() as u64;
        let mut ids: Vec<Vec<u8>> = Vec::new();
        let mut spans = Vec::new();
        for (copy, span) in (0_u8..).flat_map(|copy| recorded.iter().map(move |span| (copy, span))).take(SPANS) {
            let mut span = span.clone();
            // Ids of copies are unique byte sequences in the body.
            span.trace_id.iter_mut().for_each(|byte| *byte ^= copy.wrapping_mul(37));
            for time in [&mut span.start_time_unix_nano, &mut span.end_time_unix_nano] {
                *time = now - 2_000_000_000 + (*time - first) % 1_000_000_000;
            }
            span.end_time_unix_nano = span.end_time_unix_nano.max(span.start_time_unix_nano);
            for attribute in &mut span.attributes {
                if attribute.key == "ai.telemetry.functionId"
                    && let Some(Value::StringValue(name)) =
                        attribute.value.as_mut().and_then(|value| value.value.as_mut())
                {
                    *name = AGENT.to_owned();
                }
            }
            if !ids.contains(&span.trace_id) {
                ids.push(span.trace_id.clone());
            }
            spans.push(span);
        }
        let scope_spans = vec![ScopeSpans { spans, ..resource.scope_spans[0].clone() }];
        let request = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..resource }] };
        let bytes = request.encode_to_vec();
        let all = |wanted: &[u8]| -> Vec<usize> {
            bytes.windows(wanted.len()).enumerate().filter(|(_, found)| *found == wanted).map(|(at, _)| at).collect()
        };
        let names = all(AGENT.as_bytes());
        let traces: Vec<(Vec<usize>, Vec<usize>)> = ids
            .iter()
            .map(|id| {
                let ids = all(id);
                // The attributes of a span are between its id and the next span's id.
                (ids, Vec::new())
            })
            .collect();
        let mut template = Self { bytes, traces };
        for name in names {
            let before = |(ids, _): &(Vec<usize>, Vec<usize>)| ids.iter().filter(|id| **id < name).max().copied();
            let nearest = (0..template.traces.len()).max_by_key(|trace| before(&template.traces[*trace]));
            template.traces[nearest.expect("a trace")].1.push(name);
        }
        template
    }

    /// Returns the body of that number, with traces and agents of its own.
    fn renew(&mut self, number: u64) {
        let Self { bytes, traces } = self;
        for (trace, (ids, names)) in (0_u64..).zip(traces) {
            let unique = (number << 16 | trace).to_be_bytes();
            ids.iter().for_each(|at| bytes[*at..*at + 8].copy_from_slice(&unique));
            let name = format!("ag-{:04}", (number * 7 + trace) % AGENTS);
            names.iter().for_each(|at| bytes[*at..*at + AGENT.len()].copy_from_slice(name.as_bytes()));
        }
    }
}

struct Service {
    child: Child,
    address: String,
    ready_after: Duration,
}

impl Service {
    fn start(folder: &Path) -> Self {
        let begun = Instant::now();
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/sre"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(folder.join("sre.yaml"))
            .env("SRE_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`cargo build --release --bin sre` first");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("ready").to_owned();
        Self { child, address, ready_after: begun.elapsed() }
    }

    fn get(&self, path: &str) -> (Duration, String) {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(&self.address).expect("a service");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        (begun.elapsed(), answer)
    }

    fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the resident memory of a process in MiB: `VmRSS` is the current, `VmHWM` the peak value.
fn memory(process: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1_024.0
}

/// The mean resident memory in each half of a period. Means, since a snapshot needs memory for a moment.
fn watch_memory(process: u32, time: Duration) -> [f64; 2] {
    [time / 2; 2].map(|half| {
        let seconds = half.as_secs().max(1);
        let at_each = (0..seconds).map(|_| {
            std::thread::sleep(Duration::from_secs(1));
            memory(process, "VmRSS:")
        });
        at_each.sum::<f64>() / seconds as f64
    })
}

/// The result of a load test.
struct Load {
    spans: u64,
    refused: u64,
    elapsed: Duration,
    /// The time to each acknowledgement, from the time at which the body was due.
    acknowledged: Vec<Duration>,
}

impl Load {
    fn rate(&self) -> f64 {
        self.spans as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.acknowledged.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// Sends bodies over a few connections for some time: as fast as possible, or at a fixed rate.
fn load(address: &str, template: &Template, next: &Arc<AtomicU64>, time: Duration, rate: Option<f64>) -> Load {
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let (refused, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let first = next.load(Ordering::SeqCst);
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (mut template, address, next, stop) =
                (template.clone(), address.to_owned(), next.clone(), stop.clone());
            let (refused, acknowledged) = (refused.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(address).expect("a service"));
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    template.renew(number);
                    let due = rate.map_or_else(Instant::now, |rate| {
                        begun + Duration::from_secs_f64((number - first) as f64 / rate)
                    });
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    match post(&mut stream, &template.bytes) {
                        200 => acknowledged.lock().expect("a list").push(due.elapsed()),
                        _ => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().expect("a sender"));
    let acknowledged = std::mem::take(&mut *acknowledged.lock().expect("a list"));
    let spans = (acknowledged.len() * SPANS) as u64;
    Load { spans, refused: refused.load(Ordering::SeqCst), elapsed: begun.elapsed(), acknowledged }
}

fn post(stream: &mut BufReader<TcpStream>, body: &[u8]) -> u16 {
    post_to(stream, "/v1/traces", body)
}

fn post_to(stream: &mut BufReader<TcpStream>, path: &str, body: &[u8]) -> u16 {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).expect("a connection");
    stream.get_mut().write_all(body).expect("a connection");
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).expect("an answer");
        let trimmed = line.trim();
        if trimmed.is_empty() {
            break;
        }
        if status == 0 {
            status = trimmed.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(1);
        } else if let Some(value) = trimmed.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).expect("an answer");
    status
}

/// Returns 200 objectives for 200 agents; the other agents have none.
fn write_settings(folder: &Path, more: &str) {
    let objectives: Vec<String> = (0..OBJECTIVES)
        .map(|agent| {
            format!(
                "name: answers-{agent}\nservice: ag-{agent:04}\ntarget: 0.95\nindicators: [{{type: task_success_rate}}, {{type: response_latency}}]\n"
            )
        })
        .collect();
    std::fs::write(folder.join("slos.yaml"), objectives.join("---\n")).expect("a file");
    std::fs::write(folder.join("sre.yaml"), format!("data: data\nslos: [slos.yaml]\n{more}")).expect("a file");
}

/// Returns the tenth percentile of a hundred times, since other load only makes them slower.
fn best(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[10]
}

/// Returns a figure as `cargo xtask bench` reads it.
fn figure(what: impl Into<String>, measured: f64, unit: &str, required: serde_json::Value) -> serde_json::Value {
    json!({"what": what.into(), "measured": measured, "unit": unit, "required": required})
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn main() {
    // `cargo test --benches` only checks that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let seconds = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (most, half) = (seconds("SRE_BENCH_SECONDS", 20), seconds("SRE_BENCH_STEADY", 60));
    let template = Template::new();
    let megabytes = template.bytes.len() as f64 / 1e6;
    let folder = tempfile::tempdir().expect("a folder");
    write_settings(folder.path(), "");
    let next = Arc::new(AtomicU64::new(1));
    let (decode, body) = (OtelAdapter::default().decoder().expect("it has one"), Bytes::from(template.bytes.clone()));
    let (read, prost) = (
        best(|| drop(decode(Body::new(BodyKind::Traces, body.clone())))),
        best(|| drop(ExportTraceServiceRequest::decode(&*template.bytes))),
    );
    let required = json!({"times": {"most": 2.0, "peer": "prost", "of_peer": nanos(prost)}});
    let mut figures = vec![figure("read such a body", nanos(read), "ns", required)];

    let service = Service::start(folder.path());
    load(&service.address, &template, &next, Duration::from_secs(3), None);
    let fastest = load(&service.address, &template, &next, Duration::from_secs(most), None);
    let what = format!("spans taken in durably, {SPANS} in {megabytes:.2} MB each");
    figures.push(figure(what, fastest.rate(), "a second", json!({"at_least": 60_000})));
    assert_eq!(fastest.refused, 0, "nothing is refused");
    let bodies = 30.0;
    // Waits until open traces of the previous load have settled.
    load(&service.address, &template, &next, Duration::from_secs(15), Some(bodies));
    let process = service.child.id();
    let watching = std::thread::spawn(move || watch_memory(process, Duration::from_secs(half)));
    let steady = load(&service.address, &template, &next, Duration::from_secs(half), Some(bodies));
    let ([first, second], peak) = (watching.join().expect("figures"), memory(process, "VmHWM:"));
    let acknowledgement = "acknowledgement at 30,000 spans a second, p99";
    figures.push(figure(acknowledgement, nanos(steady.percentile(0.99)), "ns", json!({"at_most": 250_000_000})));
    let what = format!("resident memory at most, {AGENTS} agents and {OBJECTIVES} objectives");
    figures.push(figure(what, peak, "MiB", json!({"at_most": 200})));
    let growth = (second / first - 1.0) * 100.0;
    figures.push(figure(format!("its growth between halves of {half} s"), growth, "%", json!({"at_most": 5})));
    service.kill();

    // A journal of a million spans that no snapshot covers.
    let folder = tempfile::tempdir().expect("a folder");
    write_settings(folder.path(), "snapshot_after: 8GiB\nmax_journal: 8GiB\n");
    let service = Service::start(folder.path());
    let mut stream = BufReader::new(TcpStream::connect(&service.address).expect("a service"));
    let mut renewed = template.clone();
    for number in 0..1_000 {
        renewed.renew(10_000_000 + number);
        assert_eq!(post(&mut stream, &renewed.bytes), 200);
    }
    service.kill();
    let service = Service::start(folder.path());
    let what = "start to ready, a million spans in the journal";
    figures.push(figure(what, service.ready_after.as_secs_f64(), "s", json!({"at_most": 2})));
    let (mut times, mut series) = (Vec::new(), 0);
    for _ in 0..20 {
        let (time, answer) = service.get("/metrics");
        series = answer.lines().filter(|line| line.starts_with("sre_")).count();
        times.push(time);
    }
    times.sort_unstable();
    let per_series = times[10] * 10_000 / u32::try_from(series).expect("a few");
    figures.push(figure("`/metrics`, per 10,000 series", nanos(per_series), "ns", json!({"at_most": 20_000_000})));
    service.kill();
    figures.extend(hanging_exporter::measure(&template, Duration::from_secs(most)));
    let folder = tempfile::tempdir().expect("a folder");
    figures.extend(many_objectives::measure(folder.path(), Duration::from_secs(most)));
    let text = serde_json::to_string_pretty(&figures).expect("JSON");
    println!("{text}");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-serve.json"), text).expect("a file");
}
