//! Kills `sre serve` at random moments under load: every acknowledged event counts exactly once.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use common::Service;
use http::Request;
use serde_json::{Value, json};

const KILLS: u64 = 50;
const SENDERS: u64 = 3;
/// Number of tasks per request.
const EACH: u64 = 10;

/// Returns a unique request: tasks as OTLP spans or as the project's own events.
fn request(url: &str, sender: u64, number: u64, start: u64) -> Request<bytes::Bytes> {
    let unique = sender * 1_000_000 + number;
    if number.is_multiple_of(2) {
        let span = |task: u64| {
            let begin = (start + number) * 1_000_000_000;
            json!({
                "traceId": format!("{:032x}", unique * 100 + task + 1), "spanId": format!("{:016x}", task + 1),
                "name": "invoke_agent", "startTimeUnixNano": begin.to_string(), "endTimeUnixNano": (begin + 1).to_string(),
                "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
                    {"key": "gen_ai.agent.name", "value": {"stringValue": format!("otlp-{sender}")}}],
            })
        };
        let spans: Vec<Value> = (0..EACH).map(span).collect();
        let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
        return Request::post(format!("{url}/v1/traces"))
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
    }
    let line = |task: u64| {
        let (time, task) = (start + number, unique * 100 + task);
        format!(
            "{{\"event\":\"task_finished\",\"time\":{time},\"agent\":\"own-{sender}\",\"task\":\"{task}\",\"success\":true}}\n"
        )
    };
    Request::post(format!("{url}/v1/events/sre"))
        .header("idempotency-key", format!("{unique}"))
        .body((0..EACH).map(line).collect::<String>().into())
        .unwrap()
}

async fn totals(client: &Client, url: &str) -> Value {
    let answer = client.send(Request::get(format!("{url}/v1/slos")).body("".into()).unwrap()).await.unwrap();
    serde_json::from_slice::<Value>(answer.body()).unwrap()["totals"].take()
}

/// Returns the numbers of tasks and failed tasks once they have not changed for longer than a trace stays open.
async fn settled(client: &Client, url: &str) -> (u64, u64) {
    let (mut last, mut same) = (Value::Null, 0);
    while same < 50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let found = totals(client, url).await;
        same = if found == last { same + 1 } else { 0 };
        last = found;
    }
    (last["tasks"].as_u64().unwrap(), last["failed"].as_u64().unwrap())
}

/// Sends requests one after the other, and sends unacknowledged ones again, as exporters do.
async fn load(
    sender: u64,
    start: u64,
    url: Arc<Mutex<String>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let client = Client::new(Options { connect_timeout: Duration::from_secs(1), ..Options::default() }).unwrap();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        loop {
            let at = url.lock().unwrap().clone();
            match client.send(request(&at, sender, number, start)).await {
                Ok(response) if response.status().is_success() => break,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        acknowledged.fetch_add(EACH, Ordering::SeqCst);
        number += 1;
    }
    number * EACH
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_events_count_exactly_once_after_kills() {
    let folder = tempfile::tempdir().unwrap();
    // Frequent snapshots, so that kills hit their writing too.
    std::fs::write(folder.path().join("sre.yaml"), "listen: 127.0.0.1:0\ndata: data\nsnapshot_after: 20kB\n").unwrap();
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 3_600;
    let mut random = fastrand::Rng::with_seed(7);
    let client = Client::new(Options::default()).unwrap();
    let mut service = Service::start(folder.path(), "error");
    let url = Arc::new(Mutex::new(service.url.clone()));
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(load(sender, start, url.clone(), acknowledged.clone(), stop.clone())))
        .collect();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(1..80))).await;
        drop(service);
        let before = acknowledged.load(Ordering::SeqCst);
        service = Service::start(folder.path(), "error");
        // OTLP tasks count once their traces have settled; the project's own events count immediately.
        let own = totals(&client, &service.url).await["tasks"].as_u64().unwrap();
        assert!(own <= before + SENDERS * EACH, "kill {kill}: {before} were acknowledged, and {own} are counted");
        *url.lock().unwrap() = service.url.clone();
    }
    stop.store(true, Ordering::SeqCst);
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.unwrap();
    }
    assert_eq!(sent, acknowledged.load(Ordering::SeqCst));
    assert!(sent > KILLS * EACH, "it was under load: {sent}");
    assert_eq!(settled(&client, &service.url).await, (sent, 0));
    // The numbers stay the same after one more restart.
    drop(service);
    let service = Service::start(folder.path(), "error");
    assert_eq!(settled(&client, &service.url).await, (sent, 0));
    eprintln!("{KILLS} kills, {sent} tasks");
}
