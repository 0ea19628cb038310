//! Kills `sre serve` while it delivers thousands of alerts: every incident begins once and ends once.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_sre::http::{Client, Options};
use agent_sre::sqlite::SqliteJournal;
use agent_sre::{HttpClient, JournalStore};
use common::Service;
use http::Request;
use serde_json::Value;
use sre_testkit::incidents::{Incident, Incidents};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const AGENTS: usize = 2_500;
const INCIDENTS: usize = 2 * AGENTS;
/// Numbers of incidents that have begun, and later ended, at the receiver when the service is killed.
const KILLS_AT: [usize; 3] = [0, 1, INCIDENTS / 4];
const DEADLINE: Duration = Duration::from_secs(120);

const SLOS: &str = "
name: answers
indicators: [{type: task_success_rate, target: 0.5}]
error_budget_policy: {min_events: 2}
---
name: results
indicators: [{type: task_success_rate, target: 0.5}]
error_budget_policy: {min_events: 2}
";

impl Service {
    /// Sends `count` finished tasks of each agent in one request.
    async fn send(&self, agents: &[String], count: usize, success: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let line = |agent: &String, task: usize| {
            format!(
                "{{\"event\":\"task_finished\",\"time\":{now},\"agent\":\"{agent}\",\"task\":\"{success}-{task}\",\"success\":{success}}}\n"
            )
        };
        let lines: String = agents.iter().flat_map(|agent| (0..count).map(move |task| line(agent, task))).collect();
        let client = Client::new(Options::default()).unwrap();
        let request = Request::post(format!("{}/v1/events/sre", self.url)).body(lines.into()).unwrap();
        assert!(client.send(request).await.unwrap().status().is_success());
    }
}

/// A slow webhook that deduplicates by `dedup_key`.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Incidents>>);

impl Receiver {
    async fn listen(&self) -> MockServer {
        let (server, receiver) = (MockServer::start().await, self.clone());
        let record = move |request: &wiremock::Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let alert = &body["data"];
            receiver.0.lock().unwrap().record(alert["dedup_key"].as_str().unwrap(), alert["severity"] == "resolved");
            ResponseTemplate::new(200).set_delay(Duration::from_millis(10))
        };
        Mock::given(any()).respond_with(record).mount(&server).await;
        server
    }

    fn count(&self, is_counted: impl Fn(Incident) -> bool) -> usize {
        self.0.lock().unwrap().count(is_counted)
    }

    async fn until(&self, expected: usize, is_counted: impl Fn(Incident) -> bool) {
        let begun = Instant::now();
        while self.count(&is_counted) < expected {
            let found = self.count(&is_counted);
            assert!(begun.elapsed() < DEADLINE, "found {found} incidents, expected {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Writes the configuration of a service that sends alerts to `receiver`.
fn configured(receiver: &MockServer, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("slos.yaml", SLOS);
    write("notify.yaml", &format!("channels: [{{type: webhook, url: \"{}\"}}]\n", receiver.uri()));
    let settings = "listen: 127.0.0.1:0\ndata: data\nslos: [slos.yaml]\nnotify: notify.yaml\nmax_agents: 10000\n";
    write("sre.yaml", &format!("{settings}{more}"));
    folder
}

fn agents(count: usize) -> Vec<String> {
    (0..count).map(|agent| format!("agent-{agent}")).collect()
}

/// Until a state is saved, the journal alone has what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_the_first_save_loses_no_incident() {
    let receiver = Receiver::default();
    let server = receiver.listen().await;
    let folder = configured(&server, "");
    let agents = agents(50);
    let service = Service::start(folder.path(), "off");
    service.send(&agents, 2, false).await;
    drop(service);
    let journal = SqliteJournal::open(folder.path().join("data/journal.db"), 1 << 30).unwrap();
    let covered = journal.snapshot().unwrap().map_or(0, |(last, _)| last);
    assert_eq!(covered, 0, "no saved state has the tasks yet");
    drop(journal);
    let service = Service::start(folder.path(), "off");
    receiver.until(100, |incident| incident.begins > 0).await;
    service.send(&agents, 8, true).await;
    receiver.until(100, |incident| incident.ends > 0).await;
    for (key, incident) in receiver.0.lock().unwrap().iter() {
        assert!(incident.is_whole(), "{key}: {incident:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_incident_begins_once_and_ends_once_after_kills() {
    let receiver = Receiver::default();
    let server = receiver.listen().await;
    let folder = configured(&server, "snapshot_after: 100kB\n");
    let agents = agents(AGENTS);

    let mut service = Service::start(folder.path(), "off");
    for success in [false, true] {
        let has_reached = |incident: Incident| if success { incident.ends > 0 } else { incident.begins > 0 };
        service.send(&agents, if success { 8 } else { 2 }, success).await;
        for kill_at in KILLS_AT {
            receiver.until(kill_at, has_reached).await;
            drop(service);
            let reached = receiver.count(has_reached);
            assert!(reached < INCIDENTS, "all were delivered before the kill at {kill_at}");
            service = Service::start(folder.path(), "off");
        }
        receiver.until(INCIDENTS, has_reached).await;
    }

    // One more restart, and incidents that are delivered after whatever the restart sends again.
    drop(service);
    let service = Service::start(folder.path(), "off");
    service.send(&["last".to_owned()], 2, false).await;
    receiver.until(2, |incident| incident.is_open).await;
    let incidents = receiver.0.lock().unwrap();
    assert_eq!(incidents.len(), INCIDENTS + 2);
    for (key, incident) in incidents.iter().filter(|(key, _)| !key.ends_with("/last")) {
        assert!(incident.is_whole(), "{key}: {incident:?}");
    }
}
