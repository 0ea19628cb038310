//! Hostile clients, and an honest one beside them: whatever they send, the memory of the service stays within its bounds, and the honest
//! client's requests are acknowledged in time and counted exactly.
//!
//! The service runs in a process of its own, so that its memory can be measured.

mod attacked;
mod bodies;

use std::time::Duration;

use attacked::{Attacked, Honest, MIB};
use bodies::{BODY, Case, PROTOBUF, cases, gzip};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Not a test: the service that the others attack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service() {
    attacked::serve().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_more_than_four_times_its_size() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service);
    // What comes once, such as threads and buffers, is not due to a request.
    for _ in 0..3 {
        service.post("/v1/traces", PROTOBUF, gzip(&[0; BODY])).await;
        service.post("/v1/events/sre", "", gzip(&[b' '; BODY])).await;
    }
    for Case { name, path, kind, body } in cases() {
        let what = format!("{path} {kind} {name}");
        let before = service.reset_peak();
        let status = service.post(path, kind, gzip(&body)).await;
        let grown = service.peak().saturating_sub(before);
        eprintln!("{what}: {} MiB more", grown / MIB);
        assert!(grown <= 4 * body.len() + MIB, "{what}: {} MiB more for {} MiB", grown / MIB, body.len() / MIB);
        assert!(status.is_success() || status.is_client_error(), "{what}: {status}");
    }
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_together_stay_within_max_in_flight() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service);
    let before = service.reset_peak();
    let bodies: Vec<_> = cases().into_iter().map(|case| (case.path, case.kind, gzip(&case.body))).collect();
    for _ in 0..2 {
        let sent = bodies.iter().map(|(path, kind, body)| service.post(path, kind, body.clone()));
        futures_util::future::join_all(sent).await;
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("all of them at once, twice: {} MiB more", grown / MIB);
    // And what else the process needs for its work, such as threads and the pages of the journal.
    assert!(grown <= 192 * MIB + 64 * MIB, "{} MiB more", grown / MIB);
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_names_are_bounded_and_snapshots_go_on() {
    let mut service = Attacked::start("snapshot_after: 1MiB\n").await;
    let honest = Honest::beside(&service);
    let before = service.reset_peak();
    for number in 0..34 {
        let name = [b"m".repeat(15 << 20), number.to_string().into_bytes()].concat();
        let start = br#"{"event":"llm_call","time":1790000000,"agent":"attacker","task":"t","success":true,"model":""#;
        let status = service.post("/v1/events/sre", "", gzip(&[&start[..], &name, b"\"}"].concat())).await;
        assert!(
            [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
            "{status}"
        );
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("long names: {} MiB more", grown / MIB);
    assert!(grown <= 192 * MIB, "{} MiB more", grown / MIB);
    service.until_ready().await;
    honest.ends_unharmed(&mut service).await;
    service.restart();
    service.until_ready().await;
    assert!(service.memory() <= before + 192 * MIB, "{} MiB after the restart", service.memory() / MIB);
    let honest = Honest::beside(&service);
    tokio::time::sleep(Duration::from_secs(1)).await;
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_harm_nobody() {
    let mut service = Attacked::start("max_connections: 64\nclient_timeout: 1s\n").await;
    let honest = Honest::beside(&service);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut silent = Vec::new();
    for first in
        [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /v1/traces HTTP/1.1\r\ncontent-length: 9\r\n\r\n"]
    {
        for _ in 0..50 {
            if let Ok(mut stream) = TcpStream::connect(service.address).await {
                let _ = stream.write_all(first).await;
                silent.push(stream);
            }
        }
    }
    // Their time is over, and new clients are served.
    tokio::time::sleep(Duration::from_secs(4)).await;
    service.until_ready().await;
    honest.ends_unharmed(&mut service).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_bodies_take_no_memory_from_others() {
    let mut service = Attacked::start("max_in_flight: 192MiB\n").await;
    let honest = Honest::beside(&service);
    let mut stalled = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {BODY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let status = service.post("/v1/events/sre", "", vec![b' '; BODY]).await;
    assert_eq!(status, StatusCode::OK);
    honest.ends_unharmed(&mut service).await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_cost_little() {
    let mut service = Attacked::start("").await;
    let lines: String = (0..900).map(|agent| attacked::finished(&format!("agent-{agent}"))).collect();
    assert_eq!(service.post("/v1/events/sre", "", lines.clone()).await, StatusCode::OK);
    let honest = Honest::beside(&service);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = service.reset_peak();
    let mut readers = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        readers.push(stream);
    }
    for _ in 0..10 {
        // Every agent changes, so that every update is large.
        service.post("/v1/events/sre", "", lines.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("{} readers that never read: {} MiB more", readers.len(), grown / MIB);
    assert!(grown <= 150 * MIB, "{} MiB more for {} readers", grown / MIB, readers.len());
    honest.ends_unharmed(&mut service).await;
}

/// Fills the service with agents, whose names fill its answers.
async fn with_agents(count: usize) -> Attacked {
    let service = Attacked::start("").await;
    let lines: String = (0..count).map(|agent| attacked::finished(&format!("agent-{agent}"))).collect();
    assert_eq!(service.post("/v1/events/sre", "", lines).await, StatusCode::OK);
    service
}

/// Opens a connection that asks for a path and never reads the answer.
async fn ask(service: &Attacked, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(service.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_hold_up_no_telemetry() {
    let mut service = with_agents(900).await;
    let honest = Honest::beside(&service);
    let mut asking = Vec::new();
    for path in ["/v1/slos", "/v1/slos/answers", "/v1/agents", "/v1/costs"] {
        for _ in 0..25 {
            asking.push(ask(&service, path).await);
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    honest.ends_unharmed(&mut service).await;
    drop(asking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrapes_that_are_not_read_deny_nobody_theirs() {
    let service = with_agents(900).await;
    let mut asking = Vec::new();
    for _ in 0..6 {
        asking.push(ask(&service, "/metrics").await);
        // Later scrapes do not share the readings of earlier ones.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let (status, text) = service.get("/metrics").await.expect("an answer");
    assert!(status == StatusCode::OK && text.ends_with(b"\n") && text.len() > MIB);
    drop(asking);
}
