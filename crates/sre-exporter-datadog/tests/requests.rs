//! What is sent for metrics, events and objectives.

mod contract;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use sre_core::{
    AgentEvent, ExponentialHistogram, ExportBatch, ExportReport, Exporter, HttpClient, HttpError, Metric, MetricUnit,
    Resource, Secret, SloSnapshot, Snapshot, Status, Timestamp, Window,
};
use sre_exporter_datadog::{AlertType, DatadogEvent, DatadogExporter, DatadogSettings, InitialCounts};
use sre_testkit::clients;

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// A Datadog that records requests. It answers with the first of `answers` for the path, or else with 202.
#[derive(Default)]
struct Datadog {
    requests: Mutex<Vec<Request<Bytes>>>,
    answers: Mutex<Vec<(&'static str, u16, Value)>>,
}

impl Datadog {
    fn answer(&self, path: &'static str, status: u16, body: Value) {
        self.answers.lock().unwrap().push((path, status, body));
    }

    /// Returns and forgets the requests: method, path and query, and body. They are held to the contract.
    fn take(&self) -> Vec<(String, String, Value)> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        let read = |request: Request<Bytes>| {
            assert_eq!(request.headers()["dd-api-key"], "an API key");
            let body = serde_json::from_slice(&contract::body(request.headers(), request.body())).unwrap_or_default();
            if request.method() != "GET" {
                contract::check(request.uri().path(), &request.headers()["content-type"], &body);
            }
            let path = request.uri().path_and_query().unwrap().as_str().to_owned();
            (request.method().to_string(), path, body)
        };
        requests.into_iter().map(read).collect()
    }

    /// Returns and forgets the bodies sent to a path.
    fn bodies(&self, path: &str) -> Vec<Value> {
        self.take().into_iter().filter(|(_, found, _)| found == path).map(|(_, _, body)| body).collect()
    }
}

#[async_trait]
impl HttpClient for Datadog {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let path = request.uri().path().to_owned();
        self.requests.lock().unwrap().push(request);
        let mut answers = self.answers.lock().unwrap();
        let place = answers.iter().position(|(of, ..)| *of == path);
        let (status, body) = place.map_or((202, json!({"status": "ok"})), |place| {
            let (_, status, body) = answers.remove(place);
            (status, body)
        });
        Ok(Response::builder().status(status).body(Bytes::from(body.to_string())).unwrap())
    }
}

fn settings() -> DatadogSettings {
    DatadogSettings {
        env: Some("prod".to_owned()),
        host: Some("h".to_owned()),
        ..DatadogSettings::new(Secret::new("an API key"))
    }
}

fn slo(status: Status) -> SloSnapshot {
    let mut slo = SloSnapshot::new("Fast answers", "support", Window::days(30));
    (slo.status, slo.target, slo.sli, slo.good, slo.bad) = (status, Some(0.95), Some(0.96), 96, 4);
    slo.error_budget.remaining = Some(0.8);
    slo
}

/// Sends metrics and objectives with their own metrics, as a runtime collects them.
async fn export(
    exporter: &DatadogExporter,
    datadog: &Datadog,
    seconds: i64,
    metrics: &[Metric<'static>],
    objectives: &[SloSnapshot],
) -> ExportReport {
    let snapshots: Vec<_> = objectives.iter().map(|slo| Snapshot::Slo(Box::new(slo.clone()))).collect();
    let (at, resource) = (Timestamp::from_secs(START.as_secs() + seconds), Resource::new("agents"));
    let metrics = [metrics.to_vec(), metrics_of(objectives)].concat();
    let batch = ExportBatch::new(at, &resource).with_state(&metrics, &snapshots);
    let report = exporter.export(&batch, datadog).await.unwrap();
    let settled = report.accepted + report.ignored + report.rejected_count();
    assert_eq!(settled, batch.len() as u64, "{report:?}");
    report
}

fn metrics_of(objectives: &[SloSnapshot]) -> Vec<Metric<'static>> {
    let mut metrics = Vec::new();
    objectives.iter().for_each(|slo| slo.metrics(&mut |metric| metrics.push(metric.into_owned())));
    metrics
}

/// Returns the values of the series in a body, by name.
fn values(body: &Value) -> Vec<(&str, f64)> {
    let series = body["series"].as_array().unwrap();
    series.iter().map(|s| (s["metric"].as_str().unwrap(), s["points"][0]["value"].as_f64().unwrap())).collect()
}

#[tokio::test]
async fn counters_are_counts_of_the_interval() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let metrics = |total: f64| {
        let mut histogram = ExponentialHistogram::new(5);
        (0..total as u32).for_each(|_| histogram.record(2.0));
        vec![
            Metric::counter("sre.tasks", total).with_label("outcome", "failed"),
            Metric::histogram("sre.latency", histogram).with_unit(MetricUnit::Seconds),
            Metric::gauge("sre.nothing", f64::NAN),
        ]
    };
    let report = export(&exporter, &datadog, 0, &metrics(7.0), &[]).await;
    assert_eq!((report.accepted, report.ignored), (2, 1), "NaN has no equivalent");
    let bodies = datadog.bodies("/api/v2/series");
    let before = [("agent_sre.tasks", 0.0), ("agent_sre.latency.count", 0.0), ("agent_sre.latency.sum", 0.0)];
    assert_eq!(values(&bodies[0]), before, "what was counted before the start is not sent");
    export(&exporter, &datadog, 60, &metrics(9.0), &[]).await;
    let bodies = datadog.bodies("/api/v2/series");
    let series = &bodies[0]["series"][0];
    assert_eq!((&series["type"], &series["interval"]), (&json!(1), &json!(60)));
    assert_eq!(series["tags"], json!(["outcome:failed", "service:agents", "env:prod"]));
    let values = values(&bodies[0]);
    assert_eq!(
        values[..3],
        [("agent_sre.tasks", 2.0), ("agent_sre.latency.count", 2.0), ("agent_sre.latency.sum", 4.0)]
    );
    let names: Vec<_> = values[3..].iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["avg", "median", "95percentile", "99percentile"].map(|n| format!("agent_sre.latency.{n}")));
    assert_eq!(bodies[0]["series"][2]["unit"], "second");
}

#[tokio::test]
async fn a_batch_that_is_sent_again_has_the_same_counts() {
    let settings = DatadogSettings { initial_counts: InitialCounts::Keep, ..settings() };
    let (exporter, datadog) = (DatadogExporter::new(settings).unwrap(), Datadog::default());
    let (metrics, resource) = ([Metric::counter("sre.tasks", 7.0)], Resource::new("agents"));
    let snapshots = [Snapshot::Slo(Box::new(slo(Status::Healthy)))];
    let batch = ExportBatch::new(START, &resource).with_state(&metrics, &snapshots);
    datadog.answer("/api/v1/check_run", 503, json!({}));
    assert!(exporter.export(&batch, &datadog).await.unwrap_err().is_retryable());
    assert!(exporter.export(&batch, &datadog).await.is_ok());
    let bodies = datadog.bodies("/api/v2/series");
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1], "the points replace each other");
}

/// As the outbox splits a batch that is too large.
#[tokio::test]
async fn a_half_with_objectives_alone_sends_no_series_again() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let (slo, resource) = (slo(Status::Healthy), Resource::new("agents"));
    let (metrics, snapshots) = (metrics_of(std::slice::from_ref(&slo)), [Snapshot::Slo(Box::new(slo))]);
    for (metrics, snapshots) in [(&metrics[..], &[][..]), (&[], &snapshots)] {
        let batch = ExportBatch::new(START, &resource).with_state(metrics, snapshots);
        exporter.export(&batch, &datadog).await.unwrap();
    }
    let paths: Vec<_> = datadog.take().into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["/api/v2/series", "/api/v1/check_run"]);
}

#[tokio::test]
async fn an_objective_is_gauges_a_check_and_an_event_when_it_changes() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    export(&exporter, &datadog, 0, &[], &[slo(Status::Healthy)]).await;
    let requests = datadog.take();
    assert_eq!(requests.len(), 2, "no event of the first status: {requests:?}");
    let found = values(&requests[0].2);
    assert!(found.contains(&("agent_sre.slo.budget_remaining", 0.8)), "{found:?}");
    assert!(found.contains(&("agent_sre.slo.sli", 0.96)), "{found:?}");
    for (seconds, status, check, alert_type) in [
        (60, Status::Warning, 1, "warning"),
        (120, Status::Exhausted, 2, "error"),
        (180, Status::Unknown, 3, "info"),
        (240, Status::Healthy, 0, "success"),
    ] {
        export(&exporter, &datadog, seconds, &[], &[slo(status)]).await;
        let requests = datadog.take();
        let (checks, event) = (&requests[1].2, &requests[2].2);
        assert_eq!((&checks[0]["check"], &checks[0]["status"]), (&json!("agent_sre.slo"), &json!(check)));
        assert_eq!(event["title"], format!("SLO Fast answers of support is {status}"));
        assert_eq!(event["alert_type"], alert_type);
        assert_eq!(event["aggregation_key"], "support:Fast answers");
        assert_eq!(event["tags"][0], "slo:fast_answers");
    }
    for status in [Status::Healthy, Status::Unknown, Status::Healthy] {
        export(&exporter, &datadog, 300, &[], &[slo(status)]).await;
        assert_eq!(datadog.take().len(), 2, "an agent without work is no event");
    }
}

#[tokio::test]
async fn a_refused_event_or_check_is_counted_and_metrics_are_not_sent_again() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let metrics = [Metric::gauge("sre.open", 1.0)];
    export(&exporter, &datadog, 0, &metrics, &[slo(Status::Healthy)]).await;
    datadog.answer("/api/v1/check_run", 400, json!({"errors": ["no such host"]}));
    datadog.answer("/api/v1/events", 202, json!({"errors": ["too old"]}));
    let report = export(&exporter, &datadog, 60, &metrics, &[slo(Status::Warning)]).await;
    assert_eq!(report.rejected_count(), 1);
    assert!(report.rejected[0].reason.contains("no such host"), "{report:?}");
}

#[tokio::test]
async fn events_are_distributions_that_datadog_adds_up() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let lines = [
        r#"{"event":"task_started","time":1790000000,"agent":"support","task":"t"}"#,
        r#"{"event":"llm_call","time":1790000001.5,"agent":"support","task":"t","model":"gpt-4o mini","provider":"openai","input_tokens":100,"output_tokens":5,"cost_usd":"0.05","duration_ms":750,"first_token_ms":120}"#,
        r#"{"event":"llm_call","time":1790000001.9,"agent":"support","task":"t","model":"gpt-4o mini","provider":"openai","input_tokens":200,"output_tokens":6,"cost_usd":"0.01","duration_ms":250}"#,
        r#"{"event":"evaluation","time":1790000002,"agent":"support","task":"t","metric":"relevance","score":0.75}"#,
        r#"{"event":"task_finished","time":1780000000,"agent":"support","task":"t","success":false,"duration_ms":2000,"cost_usd":"0.06"}"#,
    ];
    let events = lines.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap()));
    let (at, resource) = (Timestamp::from_secs(START.as_secs() + 60), Resource::new("agents"));
    let report = exporter.export(&ExportBatch::new(at, &resource).with_events(&events), &datadog).await.unwrap();
    assert_eq!((report.accepted, report.ignored), (4, 1));
    let bodies = datadog.bodies("/api/v1/distribution_points");
    let of = |metric: &str| {
        let series = bodies[0]["series"].as_array().unwrap();
        series.iter().find(|series| series["metric"] == metric).unwrap_or_else(|| panic!("{metric}: {series:#?}"))
    };
    let cost = of("agent_sre.llm_call.cost");
    assert_eq!(cost["points"], json!([[1_790_000_001, [0.05, 0.01]]]), "one series, and one point a second");
    let tags = ["agent:support", "outcome:succeeded", "model:gpt-4o_mini", "provider:openai"];
    assert_eq!(cost["tags"], json!(tags.into_iter().chain(["service:agents", "env:prod"]).collect::<Vec<_>>()));
    assert_eq!((&cost["type"], &cost["host"]), (&json!("distribution"), &json!("h")));
    assert_eq!(of("agent_sre.llm_call.time_to_first_token")["points"][0][1], json!([0.12]));
    assert_eq!(of("agent_sre.evaluation.score")["points"][0][1], json!([0.75]));
    let task = of("agent_sre.task.cost");
    assert_eq!(task["tags"][1], "outcome:failed");
    assert_eq!(task["points"], json!([[1_790_000_060 - 55 * 60, [0.06]]]), "an old event is not lost");
}

fn synced() -> DatadogExporter {
    let app_key = Some(Secret::new("an application key"));
    DatadogExporter::new(DatadogSettings { sync_slos: true, app_key, ..settings() }).unwrap()
}

#[tokio::test]
async fn an_slo_is_created_once_and_updated_when_it_differs() {
    let (exporter, datadog) = (synced(), Datadog::default());
    datadog.answer("/api/v1/slo", 200, json!({"data": []}));
    export(&exporter, &datadog, 0, &[], &[slo(Status::Healthy)]).await;
    let mut requests = datadog.take();
    let (method, _, created) = requests.pop().unwrap();
    let (_, found, _) = requests.pop().unwrap();
    assert_eq!((&*method, &*found), ("POST", "/api/v1/slo?limit=1000&tags_query=slo%3Afast%5Fanswers"));
    assert_eq!(created["name"], "Fast answers of support");
    let of = "slo:fast_answers,agent:support,service:agents,env:prod";
    assert_eq!(created["query"]["numerator"], format!("sum:agent_sre.slo.events{{{of},outcome:good}}.as_count()"));
    assert_eq!(created["query"]["denominator"], format!("sum:agent_sre.slo.events{{{of}}}.as_count()"));
    assert_eq!(created["thresholds"], json!([{"timeframe": "30d", "target": 95.0}]));
    export(&exporter, &datadog, 60, &[], &[slo(Status::Healthy)]).await;
    assert!(datadog.take().iter().all(|(_, path, _)| !path.starts_with("/api/v1/slo")), "it is in step");

    // Another process finds it, with another tag.
    let mut existing = created.clone();
    existing["id"] = "abc-123".into();
    existing["tags"].as_array_mut().unwrap().push("team:support".into());
    existing["thresholds"][0]["target_display"] = "95.0".into();
    for (target, requests) in [(0.95, 1), (0.999, 2)] {
        let exporter = synced();
        datadog.answer(
            "/api/v1/slo",
            200,
            json!({"data": [{"id": "other", "name": "Fast", "type": "metric"}, existing]}),
        );
        let mut changed = slo(Status::Healthy);
        changed.target = Some(target);
        export(&exporter, &datadog, 0, &[], &[changed]).await;
        let sent: Vec<_> = datadog.take().into_iter().filter(|(_, path, _)| path.starts_with("/api/v1/slo")).collect();
        assert_eq!(sent.len(), requests, "{sent:?}");
        if let Some((method, path, body)) = sent.get(1) {
            assert_eq!((method.as_str(), path.as_str()), ("PUT", "/api/v1/slo/abc%2D123"));
            assert_eq!(body["thresholds"][0]["target"], 99.9);
            assert!(body["tags"].as_array().unwrap().contains(&json!("team:support")));
        }
    }
}

#[tokio::test]
async fn an_slo_that_cannot_be_synced_stops_nothing_else() {
    let (exporter, datadog) = (synced(), Datadog::default());
    datadog.answer("/api/v1/slo", 403, json!({"errors": ["an application key is forbidden"]}));
    let report = export(&exporter, &datadog, 0, &[Metric::gauge("sre.open", 1.0)], &[slo(Status::Healthy)]).await;
    assert_eq!(report.rejected_count(), 1);
    assert!(
        report.rejected[0].reason.contains("datadog answered 403: {\"errors\":[\"*** is forbidden\"]}"),
        "{report:?}"
    );
    let mut impossible = slo(Status::Healthy);
    impossible.target = Some(1.0);
    datadog.take();
    export(&exporter, &datadog, 60, &[], &[impossible]).await;
    assert!(datadog.take().iter().all(|(_, path, _)| !path.starts_with("/api/v1/slo")), "no SLO of 100 %");
}

#[tokio::test]
async fn requests_are_laid_beside_those_of_datadogs_client() {
    let theirs = clients::requests("datadog");
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let gauge = Metric::gauge("sre.slo.error_budget.remaining", 0.8).with_unit(MetricUnit::Ratio);
    let metrics = [gauge.with_labels(&[("agent", "support"), ("slo", "s")]), Metric::counter("sre.cost.usd", 0.05)];
    export(&exporter, &datadog, 0, &metrics, &[slo(Status::Healthy)]).await;
    datadog.take();
    export(&exporter, &datadog, 60, &metrics, &[slo(Status::Exhausted)]).await;
    let ours = datadog.take();
    // The metrics of the recording alone, after a first batch.
    let other = DatadogExporter::new(settings()).unwrap();
    for seconds in [0, 60] {
        datadog.take();
        export(&other, &datadog, seconds, &metrics, &[]).await;
    }
    let series = datadog.requests.lock().unwrap()[0].body().len();
    datadog.take();
    // The event of the recording, whose texts are the client's.
    let event = DatadogEvent {
        title: "SLO s exhausted".to_owned(),
        text: "budget spent".to_owned(),
        alert_type: AlertType::Error,
        aggregation_key: Some("support:s".to_owned()),
        tags: vec!["agent:support".to_owned()],
    };
    exporter.submit_event(&event, &Resource::new("agents"), START, &datadog).await.unwrap();
    let event = datadog.requests.lock().unwrap()[0].body().len();
    datadog.take();
    clients::assert_wire_len(series + event, theirs[..2].iter().map(clients::wire_len).sum());
    let events_first = [&ours[0], &ours[2], &ours[1]];
    for (ours, theirs) in events_first.into_iter().zip(&theirs) {
        assert_eq!((&json!(ours.0), &json!(ours.1)), (&theirs["method"], &theirs["path"]));
    }
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let missing = |ours: &Value, theirs: &Value| -> Vec<String> {
        keys(theirs).into_iter().filter(|key| !keys(ours).contains(key)).collect()
    };
    for at in 0..2 {
        let (ours, theirs) = (&ours[0].2["series"][at], &theirs[0]["body"]["series"][at]);
        assert_eq!(missing(ours, theirs), [""; 0]);
        for field in ["metric", "type", "interval", "resources", "unit"] {
            assert!(theirs[field].is_null() || ours[field] == theirs[field], "{field}: {ours}");
        }
    }
    for (ours, theirs) in [(&ours[2].2, &theirs[1]["body"]), (&ours[1].2[0], &theirs[2]["body"][0])] {
        assert_eq!(missing(ours, theirs), [""; 0]);
    }
    assert_eq!(ours[2].2["alert_type"], theirs[1]["body"]["alert_type"]);
    assert_eq!(ours[1].2[0]["status"], theirs[2]["body"][0]["status"]);
}

#[tokio::test]
async fn an_event_of_your_own_is_sent_at_once() {
    let (exporter, datadog) = (DatadogExporter::new(settings()).unwrap(), Datadog::default());
    let event = DatadogEvent {
        title: "Deployed".to_owned(),
        text: "x".repeat(5_000),
        alert_type: AlertType::Success,
        tags: vec!["Agent:support".to_owned()],
        ..DatadogEvent::default()
    };
    let report = exporter.submit_event(&event, &Resource::new("agents"), START, &datadog).await.unwrap();
    assert_eq!(report.accepted, 1);
    let bodies = datadog.bodies("/api/v1/events");
    assert_eq!(bodies[0]["text"].as_str().unwrap().len(), 4_000);
    assert_eq!(bodies[0]["tags"], json!(["agent:support", "service:agents", "env:prod"]));
}

#[tokio::test]
async fn metrics_and_costs_of_your_own_are_sent_at_once() {
    let settings = DatadogSettings { initial_counts: InitialCounts::Keep, ..settings() };
    let (exporter, datadog) = (DatadogExporter::new(settings).unwrap(), Datadog::default());
    let resource = Resource::new("agents");
    for (seconds, total) in [(0, 7.0), (60, 9.0)] {
        let at = Timestamp::from_secs(START.as_secs() + seconds);
        let metric = Metric::counter("deploys", total).with_label("agent", "support");
        assert_eq!(exporter.submit_metric(&metric, &resource, at, &datadog).await.unwrap().accepted, 1);
    }
    let bodies = datadog.bodies("/api/v2/series");
    assert_eq!(values(&bodies[0]), [("agent_sre.deploys", 7.0)]);
    assert_eq!(values(&bodies[1]), [("agent_sre.deploys", 2.0)], "a count of the interval");
    let cost = "0.45".parse().unwrap();
    assert_eq!(exporter.export_cost("support", cost, &resource, START, &datadog).await.unwrap().accepted, 1);
    let bodies = datadog.bodies("/api/v1/distribution_points");
    let series = &bodies[0]["series"][0];
    assert_eq!(
        (&series["metric"], &series["points"]),
        (&json!("agent_sre.cost.usd"), &json!([[START.as_secs(), [0.45]]]))
    );
    assert_eq!(series["tags"], json!(["agent:support", "service:agents", "env:prod"]));
}
