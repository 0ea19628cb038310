//! Clients that read answers slowly or never.

use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::attacked::{Attacked, MIB, assert_grown};
use crate::normal_client::{NormalClient, finished};

const READERS: usize = 500;
/// As many as have objectives and totals of their own, with the normal one.
const AGENTS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_cost_little() {
    let mut service = Attacked::start(&format!("max_connections: {}\n", READERS + 32)).await;
    let lines: String = (1..AGENTS).map(|agent| finished(&format!("agent-{agent}"))).collect();
    assert_eq!(service.post("/v1/events/sre", "", lines.clone()).await, StatusCode::OK);
    let client = NormalClient::start_beside(&service).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = service.reset_peak();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = TcpStream::connect(service.target.address).await.unwrap();
        stream.write_all(b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        readers.push(stream);
    }
    for _ in 0..4 {
        // Every agent changes, so that every update is large.
        service.post("/v1/events/sre", "", lines.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let grown = service.peak().saturating_sub(before);
    assert_grown("500 readers of live updates that never read, with 1,000 agents", grown, 150 * MIB);
    drop(readers);
    client.finishes_within_bounds(&mut service).await;
}

/// Fills the service with agents, whose names fill its answers.
async fn with_agents(count: usize) -> Attacked {
    let service = Attacked::start("").await;
    let lines: String = (0..count).map(|agent| finished(&format!("agent-{agent}"))).collect();
    assert_eq!(service.post("/v1/events/sre", "", lines).await, StatusCode::OK);
    service
}

/// Opens a connection that requests a path and never reads the response.
async fn ask(service: &Attacked, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(service.target.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_hold_up_no_telemetry() {
    let mut service = with_agents(AGENTS - 1).await;
    let client = NormalClient::start_beside(&service).await;
    let mut asking = Vec::new();
    for path in ["/v1/slos", "/v1/slos/answers", "/v1/agents", "/v1/costs"] {
        for _ in 0..25 {
            asking.push(ask(&service, path).await);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.finishes_within_bounds(&mut service).await;
    drop(asking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrapes_and_pages_of_many_objectives_cost_little() {
    let folder = tempfile::tempdir().unwrap();
    let objective =
        |number| format!("name: answers-{number}\ntarget: 0.95\nindicators: [{{type: task_success_rate}}]\n");
    let objectives: Vec<String> = (0..1_000).map(objective).collect();
    std::fs::write(folder.path().join("slos.yaml"), objectives.join("---\n")).unwrap();
    let mut service = Attacked::start_in(folder, "slos: [slos.yaml]\n").await;
    let lines: String = (0..19).map(|agent| finished(&format!("agent-{agent}"))).collect();
    assert_eq!(service.post("/v1/events/sre", "", lines.clone()).await, StatusCode::OK);
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(1));
    // Keeps the labels of the series, once for all scrapes.
    let text = service.get("/metrics").await.expect("an answer").1;
    assert!(text.len() > 25 * MIB, "{} series", text.iter().filter(|byte| **byte == b'\n').count());
    let before = service.reset_peak();
    let page = ask(&service, "/v1/live").await;
    let mut asking = Vec::new();
    for _ in 0..6 {
        asking.push(ask(&service, "/metrics").await);
        // Later scrapes do not share the readings of earlier ones.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        service.post("/v1/events/sre", "", lines.clone()).await;
    }
    let (status, text) = service.get("/metrics").await.expect("an answer");
    assert!(status == StatusCode::OK && text.ends_with(b"\n") && text.len() > 25 * MIB);
    let grown = service.peak().saturating_sub(before);
    let what = format!("20,000 objectives: six scrapes of {} MiB that are not read, and a page", text.len() / MIB);
    assert_grown(&what, grown, 300 * MIB);
    client.finishes_within_bounds(&mut service).await;
    drop((asking, page));
}
