//! Exporters of the service, against a server on loopback that speaks OTLP.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Service, finished, tasks};
use serde_json::Value;
use sre_server::Config;
use sre_testkit::otlp;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use wiremock::matchers::{any, header};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Writes settings with an exporter to a collector, and returns them.
fn settings(folder: &Path, url: &str, key: &str) -> Config {
    write_settings(
        folder,
        &format!(
            "exporters:\n  - {{type: otlp, name: collector, url: '{url}', headers: {{api-key: '{key}'}}, interval: 1s}}\n"
        ),
    )
}

fn write_settings(folder: &Path, exporters: &str) -> Config {
    std::fs::write(folder.join("sre.yaml"), format!("listen: 127.0.0.1:0\ndata: data\n{exporters}")).unwrap();
    Config::load(&folder.join("sre.yaml")).unwrap()
}

/// Starts a collector that answers requests with this key with `status`, and others with 401.
async fn collector(key: &str, answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(header("api-key", key)).respond_with(answer).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(401)).with_priority(9).mount(&server).await;
    server
}

/// Returns the agents and tasks of the spans that a collector was sent, sorted.
async fn spans(collector: &MockServer) -> Vec<String> {
    let requests = collector.received_requests().await.unwrap();
    let of_traces = requests.iter().filter(|request| request.url.path() == "/v1/traces");
    let text = |value: Option<Value>| value.unwrap().as_str().unwrap().to_owned();
    let mut found: Vec<String> = of_traces
        .flat_map(otlp::spans)
        .map(|span| {
            let attribute = |key| text(otlp::attribute(&span.attributes, key));
            format!("{}/{}", attribute("gen_ai.agent.name"), attribute("sre.task"))
        })
        .collect();
    found.sort();
    found
}

fn first(list: &Value) -> &Value {
    &list["exporters"][0]
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_metrics_arrive_and_the_exporter_says_so() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), collector("k1", ResponseTemplate::new(200)).await);
    let service = Service::start(settings(folder.path(), &collector.uri(), "k1")).await;
    service.events(&tasks("support", 3, 1)).await;
    let metrics = service.until("/v1/exporters", |list| first(list)["sent"].as_u64() > Some(20)).await;
    assert_eq!(first(&metrics)["error"], Value::Null);
    let list = service.until("/v1/exporters", |list| first(list)["waiting"] == 0).await;
    let exporter = first(&list);
    assert_eq!((&exporter["name"], &exporter["state"]), (&"collector".into(), &"ok".into()), "{exporter}");
    assert_eq!(exporter["error"], Value::Null);
    assert_eq!(spans(&collector).await, ["support/0", "support/1", "support/2"]);
    let metrics = service.get_raw("/metrics").await;
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(metrics.contains("sre_exporter_sent_total{exporter=\"collector\",kind=\"event\"} 3\n"), "{metrics}");
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_halt_the_exporter_until_a_reload_and_nothing_is_lost() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), collector("k2", ResponseTemplate::new(200)).await);
    let service = Service::start(settings(folder.path(), &collector.uri(), "wrong")).await;
    service.events(&tasks("support", 3, 0)).await;
    let list = service.until("/v1/exporters", |list| first(list)["state"] == "halted").await;
    assert!(first(&list)["error"].as_str().unwrap().contains("401"), "{list}");
    let asked = collector.received_requests().await.unwrap().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(collector.received_requests().await.unwrap().len(), asked, "it does not ask again");
    settings(folder.path(), &collector.uri(), "k2");
    service.server.reload().await.unwrap();
    service.until("/v1/exporters", |list| first(list)["state"] == "ok" && first(list)["waiting"] == 0).await;
    // What came before the reload waited in the spool.
    let arrived = spans(&collector).await;
    for task in ["support/0", "support/1", "support/2"] {
        assert!(arrived.iter().any(|span| span == task), "{arrived:?}");
    }
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_removed_exporter_is_deleted_and_counted() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), collector("k4", ResponseTemplate::new(503)).await);
    let service = Service::start(settings(folder.path(), &collector.uri(), "k4")).await;
    service.events(&tasks("support", 3, 0)).await;
    service.until("/v1/exporters", |list| first(list)["waiting"] == 3 && first(list)["state"] == "failing").await;
    write_settings(folder.path(), "");
    service.server.reload().await.unwrap();
    let expected = "sre_exporter_dropped_total{exporter=\"collector\",kind=\"event\",reason=\"removed\"} 3\n";
    let begun = std::time::Instant::now();
    loop {
        let metrics = service.get_raw("/metrics").await;
        if std::str::from_utf8(metrics.body()).unwrap().contains(expected) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{metrics:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.server.stop().await;
    let spool = agent_sre::sqlite::SqliteSpool::open(folder.path().join("data/spool.db")).unwrap();
    assert_eq!(agent_sre::Spool::queues(&spool).unwrap(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_delays_nobody_and_a_restart_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let service = Service::start(settings(folder.path(), &url, "k3")).await;
    service.events(&finished("support", 0, true)).await;
    // The request of the exporter is there, and stays unanswered as long as the connection is kept.
    let (mut connection, _) = hanging.accept().await.unwrap();
    connection.read_exact(&mut [0; 4]).await.unwrap();
    for task in 1..20 {
        service.events(&finished("support", task, true)).await;
    }
    let list = service.get("/v1/exporters").await;
    assert_eq!((&first(&list)["sent"], &first(&list)["error"]), (&0.into(), &Value::Null), "still in flight: {list}");
    assert_eq!(service.totals().await["tasks"], 20, "all are acknowledged and counted meanwhile");
    service.server.stop().await;
    drop(connection);
    let good = collector("k3", ResponseTemplate::new(200)).await;
    let service = Service::start(settings(folder.path(), &good.uri(), "k3")).await;
    service.until("/v1/exporters", |list| first(list)["sent"].as_u64() > Some(20) && first(list)["waiting"] == 0).await;
    assert_eq!(spans(&good).await.len(), 20, "each task once");
    service.server.stop().await;
}
