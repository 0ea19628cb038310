//! The table in docs/metrics.md lists exactly the metrics that exist.
//!
//! `UPDATE=1 cargo test -p sre-server --test metrics` writes the table.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use agent_sre::http::{Outbox, OutboxOptions};
use agent_sre::slo::{ResponseLatency, Slo};
use agent_sre::{
    AgentEvent, AlertsSnapshot, BreakerSnapshot, BreakerState, BudgetSnapshot, BurnAlert, BurnRate, CascadeReport,
    ChannelSnapshot, Collect, CostScope, CostsSnapshot, ExportBatch, ExportError, ExportReport, Exporter, HttpClient,
    IndicatorSnapshot, Metric, MetricValue, NoHttp, Runtime, Severity, Signal, SliReading, SliSpec, SloSnapshot,
    Snapshot, Target, Timestamp, Totals, Unit, Usd, Wants, Window, WindowedCalls,
};
use common::{Service, config};
use serde_json::{Value, json};
use sre_server::Config;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// A row of the table.
#[derive(Debug, PartialEq)]
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

type Table = BTreeMap<String, Row>;

fn add(table: &mut Table, name: &str, kind: &str, labels: impl IntoIterator<Item = String>, help: &str) {
    let row = table.entry(name.to_owned()).or_insert_with(|| Row {
        kind: kind.to_owned(),
        labels: BTreeSet::new(),
        help: help.to_owned(),
    });
    assert_eq!((&*row.kind, &*row.help), (kind, help), "{name} has one type and one help");
    row.labels.extend(labels);
}

fn add_metric(table: &mut Table, metric: &Metric<'_>) {
    let kind = match metric.value {
        MetricValue::Counter(_) => "counter",
        MetricValue::Histogram(_) => "histogram",
        _ => "gauge",
    };
    let labels = metric.labels.iter().map(|(name, _)| name.to_string());
    add(table, &metric.prometheus_name(), kind, labels, &metric.help);
}

/// Snapshots in which every number is set.
fn snapshots() -> Vec<Snapshot> {
    let mut slo = SloSnapshot::new("answers", "support", Window::DAY);
    (slo.target, slo.sli) = (Some(0.9), Some(0.8));
    let budget = &mut slo.error_budget;
    (budget.total, budget.consumed, budget.remaining, budget.spent_in_s) =
        (Some(0.1), Some(2.0), Some(-1.0), Some(0.0));
    slo.burn_rates = vec![BurnRate::new(Window::HOUR, Some(2.0), 8, 2)];
    slo.alerts = vec![BurnAlert::new(Severity::Warning, 2.0, Window::HOUR, Window::FIVE_MINUTES)];
    let (budget, alert) = (slo.error_budget, slo.alerts[0]);
    for unit in [Unit::Ratio, Unit::Milliseconds, Unit::Usd, Unit::Count] {
        let mut reading = SliReading::default();
        (reading.value, reading.compliance, reading.samples) = (Some(1.0), Some(1.0), 1);
        let spec = SliSpec::at_most("any", 0.9, unit, Window::DAY).unwrap();
        let mut indicator = IndicatorSnapshot::new(&spec, reading);
        (indicator.error_budget, indicator.alerts) = (Some(budget), vec![alert]);
        slo.indicators.push(indicator);
    }
    let mut breaker = BreakerSnapshot::new(Target::tool("search"), BreakerState::Open);
    let mut window = WindowedCalls::default();
    (window.calls, window.failed) = (2, 1);
    (breaker.window, breaker.retry_after_s) = (Some(window), Some(30.0));
    let mut costs = CostsSnapshot::default();
    let scope = CostScope::AgentOnModel { agent: "support".into(), model: "gpt-5".into() };
    let mut budget = BudgetSnapshot::new(scope, Usd::ZERO);
    budget.exhausted_at = Some(NOW);
    costs.budgets.push(budget);
    let mut alerts = AlertsSnapshot::default();
    alerts.channels.push(ChannelSnapshot::new("oncall"));
    vec![
        Snapshot::Slo(Box::new(slo)),
        Snapshot::Breaker(breaker),
        Snapshot::Cascade(CascadeReport::new(Target::tool("search"))),
        Snapshot::Costs(costs),
        Snapshot::Alerts(alerts),
        Snapshot::Totals(Totals::default()),
    ]
}

#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Exporter for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS
    }

    /// Rejects one record and reports nothing of the others.
    async fn export(&self, _batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        Ok(ExportReport::accepted(0).with_rejected(1, "no"))
    }
}

/// Collects all metrics: of snapshots, a runtime, an outbox and the service itself.
async fn measured() -> Table {
    let mut table = Table::new();
    snapshots().iter().for_each(|snapshot| snapshot.metrics(&mut |metric| add_metric(&mut table, &metric)));
    let slo = Slo::new("answers", vec![Box::new(ResponseLatency::default())]).unwrap();
    let line = br#"{"event":"task_finished","time":1790000000,"agent":"a","success":true,"duration_ms":20}"#;
    slo.observe(&AgentEvent::from_json(line).unwrap());
    let runtime = Runtime::builder().handle("log", Arc::new(|_: &Signal| {})).build().unwrap();
    let outbox = Outbox::without_thread(Arc::new(Nowhere), Arc::new(NoHttp), OutboxOptions::default()).unwrap();
    (0..2).for_each(|_| outbox.push(Arc::new(AgentEvent::from_json(line).unwrap())));
    outbox.flush_due().await;
    for source in [&slo as &dyn Collect, &runtime, &outbox] {
        source.metrics(NOW, &mut |metric| add_metric(&mut table, &metric));
    }
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&common::finished("a", 1, true)).await;
    service.tasks_from_two_sources("b", 5).await;
    service.until("/v1/agents", |answer| answer["agents"][1]["overlap"].is_object()).await;
    let scrape = service.get_raw("/metrics").await;
    add_scrape(&mut table, std::str::from_utf8(scrape.body()).unwrap());
    service.server.stop().await;
    table
}

/// The table is made of snapshots; this shows that a running service publishes those of every engine.
#[tokio::test]
async fn a_scrape_shows_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("slos.yaml", "name: answers\nindicators: [{type: task_success_rate, target: 0.9}]\n");
    write("breakers.yaml", "recovery_timeout: 10m\n");
    write("limits.yaml", "per_agent_daily: 10\n");
    write("sre.yaml", "listen: 127.0.0.1:0\nslos: [slos.yaml]\nbreakers: breakers.yaml\nlimits: limits.yaml\n");
    let config = Config { data: folder.path().join("data"), ..Config::load(&folder.path().join("sre.yaml")).unwrap() };
    let service = Service::start(config).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let event = |fields: Value| {
        let mut event = json!({"time": now, "agent": "worker"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        format!("{event}\n")
    };
    let mut lines = event(json!({"event": "handoff", "from": "chief", "to": "worker", "depth": 1}));
    lines += &event(json!({"event": "llm_call", "model": "m", "cost_usd": "0.5", "success": true}));
    for task in 0..5 {
        lines += &event(json!({"event": "tool_call", "tool": "search", "success": false, "error": "down"}));
        lines += &common::finished("worker", task, false);
        lines += &common::finished("chief", task, false);
    }
    service.events(&lines).await;
    service.until("/v1/alerts", |alerts| alerts.to_string().contains("cascade")).await;
    let scrape = service.get_raw("/metrics").await;
    let text = std::str::from_utf8(scrape.body()).unwrap();
    for metric in [
        "sre_slo_status",
        "sre_cost_spent_dollars",
        "sre_breaker_state",
        "sre_cascade_exposed_callers",
        "sre_alerts_total",
        "sre_tasks_total",
        "sre_signal_handler_handled_total",
        "sre_events_total",
        "sre_server_records_total",
    ] {
        let has_value = |line: &str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(text.lines().any(has_value), "{metric} is missing in\n{text}");
    }
    service.server.stop().await;
}

/// Returns the value of a series, as Prometheus' text format writes it.
async fn value(service: &Service, series: &str) -> Option<f64> {
    let scrape = service.get_raw("/metrics").await;
    let text = std::str::from_utf8(scrape.body()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn requests_are_counted_by_route_template_and_never_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&common::finished("a", 1, true)).await;
    for path in ["/v1/slos/secret-1", "/v1/slos/secret-2", "/secret-3", "/secret-4"] {
        assert_eq!(service.get_raw(path).await.status(), 404);
    }
    let url = format!("{}/secret-5", service.server.url());
    service.send(http::Request::builder().method("SECRET").uri(url), "").await;
    let evil = http::Request::get(format!("{}/healthz", service.server.url())).header("host", "evil.example");
    service.send(evil, "").await;
    for (labels, expected) in [
        ("method=\"POST\",route=\"/v1/events/{format}\",status=\"200\"", 1.0),
        ("method=\"GET\",route=\"/v1/slos/{name}\",status=\"404\"", 2.0),
        ("method=\"GET\",route=\"unmatched\",status=\"404\"", 2.0),
        ("method=\"other\",route=\"unmatched\",status=\"404\"", 1.0),
        ("method=\"GET\",route=\"/healthz\",status=\"403\"", 1.0),
    ] {
        assert_eq!(value(&service, &format!("sre_http_requests_total{{{labels}}}")).await, Some(expected), "{labels}");
    }
    let count = "sre_http_request_duration_seconds_count{route=\"/v1/slos/{name}\"}";
    assert_eq!(value(&service, count).await, Some(2.0));
    let scrape = service.get_raw("/metrics").await;
    assert!(!String::from_utf8_lossy(scrape.body()).to_lowercase().contains("secret"));
    service.server.stop().await;
}

/// Returns the metrics that a scrape has.
async fn names(service: &Service, query: &str) -> BTreeSet<String> {
    let scrape = service.get_raw(&format!("/metrics{query}")).await;
    let text = String::from_utf8(scrape.body().to_vec()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect()
}

#[tokio::test]
async fn names_select_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&common::finished("a", 1, true)).await;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let two = "?name[]=sre_slo_status&other=1&name%5B%5D=sre_http_request_duration_seconds_bucket";
    assert_eq!(names(&service, two).await, set(&["sre_http_request_duration_seconds", "sre_slo_status"]));
    assert_eq!(names(&service, "?name[]=nothing").await, set(&[]));
    assert!(names(&service, "").await.len() > 30);
    service.server.stop().await;
}

#[tokio::test]
async fn scrapes_at_the_same_time_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&common::finished("a", 1, true)).await;
    let all = (0..20).map(|_| service.get_raw("/metrics"));
    for scrape in futures_util::future::join_all(all).await {
        let text = String::from_utf8_lossy(scrape.body()).into_owned();
        assert!(scrape.status() == 200 && text.contains("process_resident_memory_bytes ") && text.ends_with('\n'));
        assert!(text.contains("sre_slo_window_events{agent=\"a\",outcome=\"good\",slo=\"answers\"} 1\n"), "{text}");
    }
    service.server.stop().await;
}

#[tokio::test]
async fn agents_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sre.yaml");
    let settings = "listen: 127.0.0.1:0\nmetrics: {drop_agents: [load-.*, canary]}\n";
    std::fs::write(&file, settings).unwrap();
    let config = Config { data: folder.path().join("data"), ..Config::load(&file).unwrap() };
    let service = Service::start(config).await;
    let agents = ["load-1", "load-2", "canary", "canary-2", "real"];
    // Failures, so that each has a breaker.
    service.events(&agents.map(|agent| common::tasks(agent, 5, 5)).concat()).await;
    let with_series = async || {
        let scrape = service.get_raw("/metrics").await;
        let text = String::from_utf8_lossy(scrape.body()).into_owned();
        let count = |agent: &str| text.matches(&format!("\"{agent}\"")).count();
        agents.into_iter().filter(|agent| count(agent) > 0).collect::<Vec<_>>()
    };
    assert_eq!(with_series().await, ["canary-2", "real"]);
    assert_eq!(service.totals().await["tasks"], 25, "they count all the same");
    std::fs::write(&file, settings.replace("load-.*, canary", ".*")).unwrap();
    service.server.reload().await.unwrap();
    assert!(with_series().await.is_empty());
    std::fs::write(&file, "listen: 127.0.0.1:0\n").unwrap();
    service.server.reload().await.unwrap();
    assert_eq!(with_series().await, agents);
    service.server.stop().await;
}

#[tokio::test]
async fn the_version_the_process_and_the_last_reload_are_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sre.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:0\n").unwrap();
    let service = Service::start(Config::load(&file).unwrap()).await;
    let version = format!("sre_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&service, &version).await, Some(1.0));
    let process = async |name: &str| value(&service, &format!("process_{name}")).await;
    let memory = (process("resident_memory_bytes").await, process("virtual_memory_bytes").await);
    assert_eq!(
        memory.0.is_some_and(|bytes| bytes > 1e6 && memory.1 > memory.0),
        cfg!(target_os = "linux"),
        "{memory:?}"
    );
    let (open, max) = (process("open_fds").await, process("max_fds").await);
    assert_eq!(
        open.is_some_and(|open| open > 3.0 && max > Some(open)),
        cfg!(target_os = "linux"),
        "{open:?} of {max:?}"
    );
    let used = process("cpu_seconds_total").await;
    assert!(used > Some(0.0) && process("cpu_seconds_total").await > used, "CPU time rises");
    let loaded = async || value(&service, "sre_config_last_reload_success_timestamp_seconds").await.unwrap();
    let successful = async || value(&service, "sre_config_last_reload_successful").await.unwrap();
    let started = loaded().await;
    assert_eq!(Some(started), value(&service, "process_start_time_seconds").await);
    service.server.reload().await.unwrap();
    let reloaded = loaded().await;
    assert!(reloaded > started, "{reloaded} {started}");
    assert_eq!(successful().await, 1.0);
    std::fs::write(&file, "listen: nowhere\n").unwrap();
    service.server.reload().await.unwrap_err();
    assert_eq!(loaded().await, reloaded, "a reload that failed loads nothing");
    assert_eq!(successful().await, 0.0);
    service.server.stop().await;
}

fn add_scrape(table: &mut Table, text: &str) {
    let (mut help, mut kind, mut name) = ("", "", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            (name, help) = rest.split_once(' ').unwrap();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split_once(' ').unwrap().1;
        } else {
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let names =
                labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_owned());
            add(table, name, kind, names.filter(|name| name != "le"), help);
        }
    }
}

fn render(table: &Table) -> String {
    let mut text = String::from("| metric | type | labels | what it measures |\n| --- | --- | --- | --- |\n");
    for (name, Row { kind, labels, help }) in table {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    text
}

#[tokio::test]
async fn the_page_lists_every_metric() {
    let expected = render(&measured().await);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let start = page.find("| metric |").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, format!("{}{expected}", &page[..start])).unwrap();
        return;
    }
    for (found, expected) in page[start..].lines().zip(expected.lines()) {
        assert_eq!(found, expected, "run the test with UPDATE=1 to write the table");
    }
    assert_eq!(
        page[start..].lines().count(),
        expected.lines().count(),
        "run the test with UPDATE=1 to write the table"
    );
}
