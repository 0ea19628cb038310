//! Circuit breakers and cascades of a running service.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{Service, config, finished};
use serde_json::{Value, json};
use sre_server::Config;

fn line(event: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    format!("{{\"time\":{now:.3},{event}}}\n")
}

fn failed_call(tool: &str) -> String {
    line(&format!(
        "\"event\":\"tool_call\",\"agent\":\"worker\",\"tool\":\"{tool}\",\"success\":false,\"error\":\"down\""
    ))
}

fn with_breakers(folder: &std::path::Path, text: &str) -> Config {
    std::fs::write(folder.join("breakers.yaml"), text).unwrap();
    std::fs::write(folder.join("sre.yaml"), "listen: 127.0.0.1:0\nbreakers: breakers.yaml\n").unwrap();
    Config { data: folder.join("data"), ..Config::load(&folder.join("sre.yaml")).unwrap() }
}

fn breaker<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    answer["breakers"].as_array().unwrap().iter().find(|breaker| breaker["name"] == name)
}

fn circuit_alerts(answer: &Value) -> usize {
    let alerts = answer["alerts"].as_array().unwrap().iter();
    alerts.filter(|alert| alert["alert"]["dedup_key"] == "breaker/tool search").count()
}

#[tokio::test]
async fn failures_open_circuits_and_spread_and_both_outlive_a_restart_and_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "recovery_timeout: 10m\n";
    let service = Service::start(with_breakers(folder.path(), settings)).await;
    assert_eq!(service.get("/v1/cascades").await, json!({"cascades": []}));
    let mut lines = line("\"event\":\"handoff\",\"agent\":\"chief\",\"from\":\"chief\",\"to\":\"worker\",\"depth\":1");
    for task in 0..5 {
        lines += &failed_call("search");
        lines += &finished("worker", task, false);
        lines += &finished("chief", task, false);
    }
    service.events(&lines).await;
    let is_whole = |breakers: &Value, cascades: &Value| {
        let search = breaker(breakers, "search").unwrap();
        assert_eq!((&search["kind"], &search["state"]), (&json!("tool"), &json!("open")), "{breakers}");
        assert!(search["retry_after_s"].as_f64().unwrap() > 0.0);
        let cascade = &cascades["cascades"][0];
        let path: Vec<_> = cascade["path"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
        assert_eq!(path, ["search", "worker", "chief"], "{cascades}");
        assert_eq!(cascade["origin"], json!({"kind": "tool", "name": "search"}));
    };
    is_whole(&service.get("/v1/breakers").await, &service.get("/v1/cascades").await);
    service.until("/v1/alerts", |alerts| circuit_alerts(alerts) == 1).await;
    service.server.stop().await;

    let service = Service::start(with_breakers(folder.path(), settings)).await;
    is_whole(&service.get("/v1/breakers").await, &service.get("/v1/cascades").await);
    std::fs::write(folder.path().join("breakers.yaml"), "recovery_timeout: 20m\nfailure_threshold: 7\n").unwrap();
    service.server.reload().await.unwrap();
    is_whole(&service.get("/v1/breakers").await, &service.get("/v1/cascades").await);
    // After the reload, the engines send new alerts and repeat none.
    service.events(&(0..7).map(|_| failed_call("other")).collect::<String>()).await;
    let is_sent = |alerts: &Value| alerts.to_string().contains("circuit of tool other: open");
    let alerts = service.until("/v1/alerts", is_sent).await;
    assert_eq!(circuit_alerts(&alerts), 1, "{alerts:#}");
    service.server.stop().await;
}

#[tokio::test]
async fn an_exhausted_objective_opens_the_circuit_of_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let slos = "name: answers\nindicators: [{type: task_success_rate, target: 0.9}]\n\
                error_budget_policy: {exhaustion_action: circuit_break}\n";
    std::fs::write(folder.path().join("slo.yaml"), slos).unwrap();
    let own = with_breakers(folder.path(), "failure_threshold: 1000\nrecovery_timeout: 10m\n");
    let service = Service::start(Config { slos: vec![folder.path().join("slo.yaml")], ..own }).await;
    service.events(&(0..40).map(|task| finished("a", task, false)).collect::<String>()).await;
    let is_open = |answer: &Value| breaker(answer, "a").is_some_and(|breaker| breaker["state"] == "open");
    service.until("/v1/breakers", is_open).await;
    let sent = |alerts: &Value| alerts.to_string().contains("error budget of answers exhausted");
    service.until("/v1/alerts", sent).await;
}

#[tokio::test]
async fn without_settings_breakers_are_shown_and_nobody_is_alerted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&(0..5).map(|_| failed_call("search")).collect::<String>()).await;
    assert_eq!(breaker(&service.get("/v1/breakers").await, "search").unwrap()["state"], "open");
    // Once a later alert has arrived, an alert of the circuit would have arrived too.
    service.events(&(0..40).map(|task| finished("a", task, false)).collect::<String>()).await;
    let alerts = service.until("/v1/alerts", |alerts| alerts.to_string().contains("slo/answers/a")).await;
    assert_eq!(circuit_alerts(&alerts), 0, "{alerts:#}");
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = with_breakers(folder.path(), "recovery_timeout: 30s\ntools:\n  failure_threshold: 0\n").check();
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("breakers.yaml:3: `tools.failure_threshold: 0`: expected 1 to 1,000,000"), "{error}");
}
