//! What an event costs on its way to a backend: into the outbox, and through each exporter's mapping to a finished request.

use std::hint::black_box;
use std::sync::Arc;

use agent_sre::agentops::{AgentOpsExporter, AgentOpsSettings};
use agent_sre::braintrust::{BraintrustExporter, BraintrustSettings};
use agent_sre::datadog::{DatadogExporter, DatadogSettings};
use agent_sre::helicone::{HeliconeExporter, HeliconeSettings};
use agent_sre::http::{Outbox, OutboxLimits, OutboxOptions};
use agent_sre::langfuse::{LangfuseExporter, LangfuseSettings};
use agent_sre::langsmith::{LangSmithExporter, LangSmithSettings};
use agent_sre::mlflow::{MlflowExporter, MlflowSettings};
use agent_sre::otlp::{OtlpExporter, OtlpSettings};
use agent_sre::phoenix::{PhoenixExporter, PhoenixSettings};
use agent_sre::wandb::{WandbExporter, WandbSettings};
use agent_sre::{AgentEvent, ExportBatch, Exporter, HttpClient, HttpError, NoHttp, Resource, Secret, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Accepts every request at once, and answers look-ups.
struct AcceptAll;

#[async_trait]
impl HttpClient for AcceptAll {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        black_box(request.body());
        let body = match request.uri().path() {
            "/v3/auth/token" => r#"{"token":"jwt"}"#,
            "/v1/project" | "/v1/experiment" => r#"{"id":"00000000-0000-0000-0000-000000000002"}"#,
            path if path.ends_with("get-by-name") => {
                r#"{"experiment":{"experiment_id":"1","lifecycle_stage":"active"}}"#
            }
            "/info" => "{}",
            "/graphql" => r#"{"data":{"upsertBucket":{"bucket":{"historyLineCount":0}}}}"#,
            path if path.contains("/traces") => "",
            _ => "{}",
        };
        Ok(http::Response::new(Bytes::from_static(body.as_bytes())))
    }
}

/// Returns tasks of sixteen events: half of them model calls. `attributes` are those of tool calls.
fn events(attributes: fn(u64) -> String) -> Vec<Arc<AgentEvent>> {
    let event = |number: u64| {
        let (time, task) = (1_790_000_000 + number, number / 16);
        let ids = format!(
            r#""time":{time},"agent":"support","task":"t-{task}","trace_id":"{:032x}","span_id":"{:016x}","parent_span_id":"{:016x}""#,
            task + 1,
            number + 1,
            task * 16 + 16
        );
        let line = match number % 16 {
            15 => format!(
                r#"{{"event":"task_finished","time":{time},"agent":"support","task":"t-{task}","trace_id":"{:032x}","span_id":"{:016x}","success":true,"duration_ms":9000}}"#,
                task + 1,
                number + 1
            ),
            kind if kind % 2 == 0 => format!(
                r#"{{"event":"llm_call",{ids},"model":"gpt-4o-mini","provider":"openai","input_tokens":1000,"cached_input_tokens":200,"output_tokens":50,"cost_usd":"0.0125","success":true,"duration_ms":750.5}}"#
            ),
            _ => format!(
                r#"{{"event":"tool_call",{ids},"tool":"search","arguments_hash":"0f","success":true,"duration_ms":20,"attributes":{}}}"#,
                attributes(number)
            ),
        };
        Arc::new(AgentEvent::from_json(line.as_bytes()).expect("a valid event"))
    };
    (0..512).map(event).collect()
}

fn no_attributes(_number: u64) -> String {
    "{}".to_owned()
}

fn helicone_id(number: u64) -> String {
    format!(r#"{{"helicone_id":"123e4567-e89b-12d3-a456-{number:012}"}}"#)
}

fn exporters() -> Vec<Arc<dyn Exporter>> {
    let (url, key) = ("http://127.0.0.1:1", || Secret::new("key"));
    vec![
        Arc::new(OtlpExporter::new(OtlpSettings::new(url)).expect("valid")),
        Arc::new(
            LangfuseExporter::new(LangfuseSettings { url: url.to_owned(), ..LangfuseSettings::new(key(), key()) })
                .expect("valid"),
        ),
        Arc::new(
            LangSmithExporter::new(LangSmithSettings { url: url.to_owned(), ..LangSmithSettings::new(key()) })
                .expect("valid"),
        ),
        Arc::new(PhoenixExporter::new(PhoenixSettings::new(url)).expect("valid")),
        Arc::new(
            BraintrustExporter::new(BraintrustSettings { url: url.to_owned(), ..BraintrustSettings::new(key()) })
                .expect("valid"),
        ),
        Arc::new(
            DatadogExporter::new(DatadogSettings { url: Some(url.to_owned()), ..DatadogSettings::new(key()) })
                .expect("valid"),
        ),
        Arc::new(MlflowExporter::new(MlflowSettings::new(url)).expect("valid")),
        Arc::new(
            AgentOpsExporter::new(AgentOpsSettings {
                url: url.to_owned(),
                otlp_url: url.to_owned(),
                ..AgentOpsSettings::new(key())
            })
            .expect("valid"),
        ),
        Arc::new(
            WandbExporter::new(WandbSettings { url: url.to_owned(), ..WandbSettings::new(key(), "team") })
                .expect("valid"),
        ),
        Arc::new(
            HeliconeExporter::new(HeliconeSettings { url: url.to_owned(), ..HeliconeSettings::new(key()) })
                .expect("valid"),
        ),
    ]
}

fn outbox(criterion: &mut Criterion) {
    let events = events(no_attributes);
    let mut group = criterion.benchmark_group("export");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push", |bencher| {
        let exporter = exporters().remove(0);
        let limits = OutboxLimits { queue_events: usize::MAX, queue_bytes: usize::MAX, ..OutboxLimits::default() };
        bencher.iter_batched_ref(
            || {
                let options = OutboxOptions { limits, ..OutboxOptions::default() };
                (Outbox::without_thread(exporter.clone(), Arc::new(NoHttp), options).expect("an outbox"), 0)
            },
            |(outbox, next)| {
                outbox.push(events[*next % events.len()].clone());
                *next += 1;
            },
            criterion::BatchSize::NumIterations(50_000),
        );
    });
    group.finish();
}

fn mapping(criterion: &mut Criterion) {
    let resource = Resource::new("bench");
    let mut group = criterion.benchmark_group("export");
    for exporter in exporters() {
        // Helicone scores requests of its own, and nothing else.
        let events = events(if exporter.name() == "helicone" { helicone_id } else { no_attributes });
        let batch = ExportBatch::new(Timestamp::from_secs(1_790_000_600), &resource).with_events(&events);
        let first = pollster::block_on(exporter.export(&batch, &AcceptAll)).expect("accepted");
        assert!(first.rejected.is_empty(), "{}: {first:?}", exporter.name());
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function(exporter.name(), |bencher| {
            bencher.iter_custom(|batches| {
                let begun = std::time::Instant::now();
                for _ in 0..batches {
                    black_box(pollster::block_on(exporter.export(&batch, &AcceptAll)).expect("accepted"));
                }
                // Per event.
                begun.elapsed() / events.len() as u32
            });
        });
    }
    group.finish();
}

criterion_group!(benches, outbox, mapping);
criterion_main!(benches);
