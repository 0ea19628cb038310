//! `/v1/live`: what a page shows, resumption, and readers that are slow.

mod common;

use std::time::{Duration, Instant};

use common::{Service, config, finished, tasks};
use http::StatusCode;
use serde_json::{Value, json};
use sre_server::{Config, ServerLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A reader of `/v1/live`.
struct Reader {
    stream: TcpStream,
    text: String,
}

impl Reader {
    async fn open(service: &Service, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(service.server.address()).await.unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /v1/live{query} HTTP/1.0\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut reader = Self { stream, text: String::new() };
        let head = reader.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        reader
    }

    async fn until(&mut self, end: &str) -> String {
        let begun = Instant::now();
        let mut part = vec![0; 64 << 10];
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no {end:?} in {}", self.text);
            let length = self.stream.read(&mut part).await.unwrap();
            assert!(length > 0, "closed after {}", self.text);
            self.text.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
    }

    /// Returns the id and the data of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let event = self.until("\n\n").await;
            let Some((id, data)) = event.trim_end().split_once("\ndata: ") else { continue };
            return (id.strip_prefix("id: ").unwrap().to_owned(), serde_json::from_str(data).unwrap());
        }
    }

    /// Reads until the parts meet a condition.
    async fn until_parts(&mut self, is_met: impl Fn(&Value) -> bool) -> (String, Value) {
        let (begun, mut parts) = (Instant::now(), json!({}));
        loop {
            assert!(begun.elapsed() < Duration::from_secs(20), "still {parts}");
            let (id, update) = self.next().await;
            if update["whole"] == true {
                parts = json!({});
            }
            let own = parts.as_object_mut().unwrap();
            own.extend(update["parts"].as_object().unwrap().clone());
            update["gone"].as_array().unwrap().iter().for_each(|key| drop(own.remove(key.as_str().unwrap())));
            if is_met(&parts) {
                return (id, parts);
            }
        }
    }
}

fn shown(parts: &Value) -> Vec<&str> {
    parts.as_object().unwrap().keys().filter_map(|key| key.strip_prefix("slo answers ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_the_most_urgent_objectives_that_match_its_filter() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let agents = |prefix: &str, failed: usize| -> String {
        (0..10).map(|number| tasks(&format!("{prefix}-{number}"), 40, failed)).collect()
    };
    service.events(&(agents("Fine", 0) + &agents("spent", 40))).await;
    let counts = |matching: usize| {
        json!({"total": 20, "matching": matching, "statuses":
            {"healthy": 10, "unknown": 0, "warning": 0, "critical": 0, "exhausted": 10}})
    };
    for (query, matching, expected) in [
        ("?limit=3", 20, vec!["spent-0", "spent-1", "spent-2"]),
        ("?limit=2&filter=fine", 10, vec!["Fine-0", "Fine-1"]),
        ("?limit=2&filter=HEALTHY+-4", 1, vec!["Fine-4"]),
        ("?filter=fine+exhausted", 0, vec![]),
    ] {
        let mut reader = Reader::open(&service, query, None).await;
        let (_, parts) = reader.until_parts(|parts| parts["objectives"] == counts(matching)).await;
        assert_eq!(shown(&parts), expected, "{query}");
        assert_eq!(parts["agents"].as_array().unwrap().len(), 20);
    }
    let everything = Reader::open(&service, "", None).await.until_parts(|parts| shown(parts).len() == 20).await;
    assert_eq!(everything.1["slo answers spent-0"]["status"], "exhausted");
    // An objective that becomes urgent replaces another.
    let mut reader = Reader::open(&service, "?limit=11", None).await;
    let last = |parts: &Value| shown(parts).into_iter().find(|agent| agent.starts_with("Fine")).map(str::to_owned);
    reader.until_parts(|parts| last(parts).as_deref() == Some("Fine-0") && shown(parts).len() == 11).await;
    service.events(&tasks("Fine-7", 400, 400)).await;
    let (mut is_there, mut is_gone) = (false, false);
    while !is_there || !is_gone {
        let (_, update) = reader.next().await;
        is_there |= update["parts"]["slo answers Fine-7"].is_object();
        is_gone |= update["gone"].as_array().unwrap().contains(&json!("slo answers Fine-0"));
    }
    for query in ["?limit=0", "?limit=501", "?limit=x", &format!("?filter={}", "x".repeat(201))] {
        let response = service.get_raw(&format!("/v1/live{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(response.headers()["content-type"] == "application/json", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_back_gets_only_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&tasks("a", 1, 0)).await;
    let good = |good: u64| move |parts: &Value| parts["slo answers a"]["good"] == good;
    let (last, _) = Reader::open(&service, "", None).await.until_parts(good(1)).await;
    service.events(&finished("a", 1, true)).await;
    let mut reader = Reader::open(&service, "", Some(&last)).await;
    let (_, update) = reader.next().await;
    assert_eq!(update["whole"], false);
    if update["parts"]["slo answers a"]["good"] != 2 {
        reader.until_parts(good(2)).await;
    }
    for unknown in ["", "nonsense", "00-1"] {
        assert_eq!(Reader::open(&service, "", Some(unknown)).await.next().await.1["whole"], true, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_cost_little_memory_and_are_disconnected() {
    const READERS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { client_timeout: Duration::from_secs(8), ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let round = |round: usize| -> String {
        (0..1_000).map(|agent| finished(&format!("agent-{agent:04}"), round, agent % 2 == 0)).collect()
    };
    service.events(&round(0)).await;
    let mut reader = Reader::open(&service, "?limit=500", None).await;
    reader.until_parts(|parts| shown(parts).len() == 500).await;
    let before = resident_mib();
    let mut silent = Vec::new();
    for _ in 0..READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(service.server.address()).await.unwrap();
        stream.write_all(b"GET /v1/live?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        silent.push(stream);
    }
    let mut most = before;
    for number in 1..=6 {
        service.events(&round(number)).await;
        // The reader beside them is not disturbed.
        let agents = |parts: &Value| parts["totals"]["tasks"] == 1_000 * (number as u64 + 1);
        reader.until_parts(agents).await;
        most = most.max(resident_mib());
    }
    eprintln!("{READERS} readers that do not read: {} MiB", most - before);
    assert!(most - before < 100, "{} MiB for {READERS} readers", most - before);
    let begun = Instant::now();
    let timed_out = "sre_server_timed_out_connections_total ";
    loop {
        let mut scrape = TcpStream::connect(service.server.address()).await.unwrap();
        scrape.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut text = String::new();
        scrape.read_to_string(&mut text).await.unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix(timed_out)?.parse().ok());
        if count == Some(READERS) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "disconnected: {count:?}");
        reader.next().await;
    }
}

/// Returns the resident memory of this process, and of the service in it.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() >> 10
}
