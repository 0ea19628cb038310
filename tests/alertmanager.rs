//! Against a real Alertmanager, on a free port of loopback.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use sre_alerts::{AlertManager, AlertOptions, AlertmanagerChannel, ChannelConfig};
use sre_core::{Alert, HttpClient, Secret, Severity};
use sre_http::Client;
use sre_testkit::outside;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Killed when the test ends, also by a panic.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(mut command: Command, folder: &Path, sink: &str, port: u16) -> io::Result<Self> {
        let config = format!(
            "route: {{receiver: sink, group_by: [agent], group_wait: 100ms, group_interval: 200ms}}\n\
             receivers: [{{name: sink, webhook_configs: [{{url: '{sink}', send_resolved: true}}]}}]\n"
        );
        std::fs::write(folder.join("alertmanager.yml"), config)?;
        command
            .arg(format!("--config.file={}", folder.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

struct Api {
    client: Client,
    base: String,
}

impl Api {
    async fn get(&self, path: &str) -> Option<Value> {
        let request = http::Request::get(format!("{}{path}", self.base)).body(Bytes::new()).unwrap();
        let answer = self.client.send(request).await.ok()?;
        answer.status().is_success().then(|| serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
    }

    /// Polls until the answer is as expected, for ten seconds at most.
    async fn until(&self, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = self.get(path).await.unwrap_or(Value::Null);
            if expected(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path}: {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The active alerts: agent, objective and severity.
fn active(alerts: &Value) -> Vec<String> {
    let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    let mut active: Vec<String> = alerts
        .as_array()
        .into_iter()
        .flatten()
        .map(|alert| ["agent", "slo", "severity"].map(|name| label(alert, name)).join(" "))
        .collect();
    active.sort();
    active
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_triggered_grouped_and_resolved_in_a_real_alertmanager() {
    let Some(program) = outside::program("prometheus-alertmanager", "a real Alertmanager") else { return };
    let sink = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&sink).await;
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = Server::start(program, folder.path(), &sink.uri(), port).unwrap();
    let client = Client::new(sre_http::Options::default()).unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let api = Api { client: client.clone(), base: base.clone() };
    api.until("/api/v2/status", |status| status["versionInfo"]["version"].is_string()).await;

    let manager = AlertManager::new(AlertOptions { http: Arc::new(client), ..AlertOptions::default() }).unwrap();
    let channel = AlertmanagerChannel::new("am", Secret::new(format!("{base}/")));
    manager.add_channel(channel, ChannelConfig::default()).unwrap();
    let alert = |agent: &str, slo: &str, severity| {
        let mut alert = Alert {
            severity,
            agent_id: agent.into(),
            slo_name: slo.into(),
            ..Alert::new(format!("{slo} of {agent}"), "The error budget burns too fast.")
        };
        alert.labels.insert("team-name".into(), "sëarch".into());
        alert.links.insert("runbook".into(), "https://example.com/runbook".into());
        alert
    };
    for (agent, slo) in [("support", "answers"), ("support", "tools"), ("planner", "plans")] {
        manager.send(&alert(agent, slo, Severity::Warning));
    }
    let all = ["planner plans warning", "support answers warning", "support tools warning"];
    let alerts = api.until("/api/v2/alerts", |alerts| active(alerts) == all).await;
    let first = &alerts[0];
    assert_eq!(first["annotations"]["description"], "The error budget burns too fast.");
    assert_eq!(first["labels"]["team_name"], "sëarch");
    assert_eq!(first["generatorURL"], "https://example.com/runbook");

    // Alertmanager's own grouping sees which belong together, and has notified its receiver.
    let groups = api.until("/api/v2/alerts/groups", |groups| groups.as_array().is_some_and(|all| all.len() == 2)).await;
    let sizes: Vec<usize> =
        groups.as_array().unwrap().iter().map(|group| group["alerts"].as_array().unwrap().len()).collect();
    assert!(sizes.contains(&2) && sizes.contains(&1), "{groups:#}");

    wait_for_notifications(&sink, ["answers firing", "tools firing", "plans firing"]).await;

    // A higher severity: the critical alert replaces the warning.
    manager.send(&alert("support", "answers", Severity::Critical));
    let all = ["planner plans warning", "support answers critical", "support tools warning"];
    api.until("/api/v2/alerts", |alerts| active(alerts) == all).await;

    // A resolution with nothing but the key resolves the same alert.
    for (agent, slo) in [("support", "answers"), ("support", "tools"), ("planner", "plans")] {
        let key = alert(agent, slo, Severity::Warning).key().into_owned();
        manager.send(&Alert { severity: Severity::Resolved, dedup_key: key, ..Alert::new("over", "") });
    }
    api.until("/api/v2/alerts", |alerts| active(alerts).is_empty()).await;
    assert!(manager.flush(Duration::from_secs(10)));
    assert_eq!(manager.stats().channels[0].failed, 0, "{:?}", manager.stats());

    wait_for_notifications(&sink, ["answers resolved", "tools resolved", "plans resolved"]).await;
}

/// Waits until Alertmanager has notified its receiver of all of these.
async fn wait_for_notifications(sink: &MockServer, expected: [&str; 3]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let requests = sink.received_requests().await.unwrap();
        let alerts = requests.iter().flat_map(|request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            body["alerts"].as_array().cloned().unwrap_or_default()
        });
        let notified: Vec<String> = alerts
            .map(|alert| format!("{} {}", alert["labels"]["slo"].as_str().unwrap(), alert["status"].as_str().unwrap()))
            .collect();
        if expected.iter().all(|what| notified.iter().any(|notified| notified == what)) {
            return;
        }
        assert!(Instant::now() < deadline, "{notified:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
