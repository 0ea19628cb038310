//! A process that sends alerts is killed a hundred times at random moments; every alert it accepted is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use sre_alerts::{AlertOptions, ChannelConfig, PersistentAlertManager, WebhookChannel};
use sre_core::{Alert, RetryPolicy, Secret, Severity};
use sre_http::Client;
use sre_store_sqlite::SqliteAlertStore;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const KILLS: usize = 100;

/// The process that is killed: this test binary, started again. It sends alerts until it is killed, and prints which of them
/// were stored.
#[test]
fn child() {
    let Ok(job) = std::env::var("SRE_KILL_TEST") else { return };
    let [url, store, run] = job.split('|').collect::<Vec<_>>()[..] else { panic!("{job}") };
    let store = Arc::new(SqliteAlertStore::open(store).unwrap());
    let options = AlertOptions {
        http: Arc::new(Client::new(sre_http::Options::default()).unwrap()),
        retry: RetryPolicy { first: Duration::from_millis(5), ..RetryPolicy::default() },
        ..AlertOptions::default()
    };
    let manager = PersistentAlertManager::new(store, options).unwrap();
    manager.add_channel(WebhookChannel::new("hook", Secret::new(url)), ChannelConfig::default()).unwrap();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").unwrap();
    if run == "last" {
        assert!(manager.flush(Duration::from_secs(60)));
        writeln!(stdout, "flushed").unwrap();
        return;
    }
    for number in 0.. {
        for severity in [Severity::Critical, Severity::Resolved] {
            let key = format!("{run}-{number}");
            let sent = manager.send(&Alert { severity, dedup_key: key.clone(), ..Alert::new(&key, "burns") });
            if sent.id.is_some() {
                writeln!(stdout, "safe {key} {severity}").unwrap();
            }
        }
    }
}

/// Receives the lines that the child prints, without an incomplete last one.
fn lines(child: &mut Child) -> Receiver<String> {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 && line.ends_with('\n') {
            let _ = sender.send(line.trim().to_owned());
            line.clear();
        }
    });
    receiver
}

fn spawn(url: &str, store: &str, run: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env("SRE_KILL_TEST", format!("{url}|{store}|{run}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hundred_random_kills_lose_no_alert() {
    if std::env::var("SRE_KILL_TEST").is_ok() {
        return;
    }
    let server = MockServer::start().await;
    // Some requests are rejected, so that deliveries are also killed while they wait for a retry.
    let mut count = 0;
    let random = std::sync::Mutex::new(move || {
        count += 1;
        if count % 7 == 0 { 503 } else { 200 }
    });
    Mock::given(any())
        .respond_with(move |_: &Request| ResponseTemplate::new(random.lock().unwrap()()))
        .mount(&server)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("alerts.db").display().to_string();
    let mut safe = Vec::new();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    for run in 0..KILLS {
        let mut child = spawn(&server.uri(), &store, &run.to_string());
        let printed = lines(&mut child);
        // Every fifth run is killed before or while it opens the store.
        if run % 5 > 0 {
            while !printed.recv().unwrap().ends_with("ready") {}
        }
        // Xorshift: the same kills in every run, as far as a scheduler allows.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        tokio::time::sleep(Duration::from_micros(seed % 40_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        safe.extend(printed.iter().filter_map(|line| line.strip_prefix("safe ").map(str::to_owned)));
    }
    let mut last = spawn(&server.uri(), &store, "last");
    let printed: Vec<String> = lines(&mut last).iter().collect();
    assert!(last.wait().unwrap().success() && printed.iter().any(|line| line == "flushed"), "{printed:?}");

    // In the order of accepted requests, each key's trigger comes before its resolution.
    let mut rejected = 0;
    let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (number, request) in server.received_requests().await.unwrap().iter().enumerate() {
        if (number + 1) % 7 == 0 {
            rejected += 1;
            continue;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let text = |field: &str| body["data"][field].as_str().unwrap().to_owned();
        arrived.entry(text("dedup_key")).or_default().push(text("severity"));
    }
    assert!(rejected > 5, "{rejected} rejected");
    let distinct: BTreeSet<&String> = safe.iter().collect();
    assert!(distinct.len() > 100 && distinct.len() == safe.len(), "{} safe", safe.len());
    let lost: Vec<&String> = safe
        .iter()
        .filter(|line| {
            let (key, severity) = line.split_once(' ').unwrap();
            !arrived.get(key).is_some_and(|all| all.iter().any(|known| known == severity))
        })
        .collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), safe.len());
    let overtaken = arrived.values().filter(|severities| severities[0] != "critical").count();
    assert_eq!(overtaken, 0, "a resolution came before its trigger");
    println!("{} accepted, {} keys arrived, {rejected} rejected", safe.len(), arrived.len());
}
