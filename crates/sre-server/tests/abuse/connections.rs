//! Clients that hold connections, streams and memory without ever finishing a request.

use std::time::{Duration, Instant};

use http::StatusCode;
use sha2::{Digest, Sha256};
use sre_testkit::outside;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::attacked::Attacked;
use crate::bodies::{BODY, PROTOBUF};
use crate::connection::trusting;
use crate::normal_client::NormalClient;

const GRPC_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Connects, sends something and nothing more.
async fn silent(service: &Attacked, first: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(service.target.address).await.ok()?;
    let _ = stream.write_all(first).await;
    Some(stream)
}

/// Holds a connection of HTTP/2 that has no stream, and answers every ping.
async fn answer_pings(address: std::net::SocketAddr) {
    let Ok(stream) = TcpStream::connect(address).await else { return };
    if let Ok((_requests, connection)) = h2::client::handshake(stream).await {
        let _ = connection.await;
    }
}

/// Returns the head of a request with a body of 16 MiB.
fn head(path: &str, kind: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {BODY}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_harm_nobody() {
    let mut service = Attacked::start("max_connections: 64\nclient_timeout: 1s\n").await;
    let client = NormalClient::start_beside(&service).await;
    let post = head("/v1/traces", PROTOBUF);
    for first in [Some(&b""[..]), Some(b"P"), Some(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(post.as_bytes()), None] {
        let (mut held, mut pinging) = (Vec::new(), JoinSet::new());
        for _ in 0..100 {
            match first {
                Some(first) => held.extend(silent(&service, first).await),
                None => drop(pinging.spawn(answer_pings(service.target.address))),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let first = first.map(String::from_utf8_lossy);
        let is_served = service.get("/healthz").await.is_some();
        assert!(!is_served, "{first:?} takes no connections from others: the attack is none");
        // Their time ends, and new clients are served.
        until_served(&service).await;
    }
    client.finishes_within_bounds(&mut service).await;
}

/// Waits until new clients are served.
async fn until_served(service: &Attacked) {
    let begun = Instant::now();
    while service.get("/healthz").await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "new clients are still refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stall_end_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = folder.path().join("cert.pem");
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let tls = trusting(&certificate);
    let settings = "max_connections: 64\nclient_timeout: 1s\ntls: {certificate: cert.pem, key: key.pem}\n";
    let mut service = Attacked::start_in(folder, settings).await;
    service.target.tls = Some(tls);
    let client = NormalClient::start_beside(&service).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.extend(silent(&service, b"\x16\x03\x01\x40\x00\x01").await);
    }
    assert!(service.get("/healthz").await.is_none(), "the attack takes no connections from others: it is none");
    until_served(&service).await;
    client.finishes_within_bounds(&mut service).await;
    drop(held);
}

const TOKENS: [&str; 2] = ["sre_of_the_sender", "sre_of_the_reader"];

/// The attacker connects from the machine's own address, which is not loopback and so has the limit of an address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_takes_a_quarter_of_all_connections_and_harms_nobody() {
    // Returns the address that the machine would send from; nothing is sent.
    let route = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("203.0.113.1:9")?;
        socket.local_addr()
    });
    let Some(own) = route.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) else {
        outside::skip("an_address_takes_a_quarter_of_all_connections_and_harms_nobody: no address besides loopback");
        return;
    };
    let digest = |token: &str| Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [sender, reader] = TOKENS.map(digest);
    let settings = format!(
        "max_connections: 64\nclient_timeout: 5s\ntokens:\n  - {{name: a, scope: ingest, sha256: {sender}}}\n  \
         - {{name: b, scope: read, sha256: {reader}}}\n"
    );
    let mut service = Attacked::listen("0.0.0.0:0", tempfile::tempdir().unwrap(), &settings).await;
    service.target.tokens = Some(TOKENS);
    let client = NormalClient::start_beside(&service).await;
    let mut held = JoinSet::new();
    for _ in 0..48 {
        let to = (own, service.target.address.port()).into();
        held.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((own, 0).into()).unwrap();
            let mut stream = socket.connect(to).await.unwrap();
            // Returns at once from a connection that is closed.
            tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0])).await.is_err()
        });
    }
    let is_held = held.join_all().await;
    assert_eq!(is_held.into_iter().filter(|is_held| *is_held).count(), 16);
    let refused = "sre_server_refused_connections_total{limit=\"max_connections_per_address\"}";
    assert_eq!(service.metric(refused).await, 32.0);
    client.finishes_within_bounds(&mut service).await;
}

/// Bodies that lack their last byte hold all memory for bodies, until somebody else needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_bodies_take_no_memory_from_others() {
    let mut service = Attacked::start("max_in_flight: 192MiB\n").await;
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_millis(500));
    let body = vec![b' '; BODY - 1];
    let (mut stalled, mut sending) = (Vec::new(), JoinSet::new());
    for number in 0..32 {
        let path = if number % 2 == 0 { "/v1/traces" } else { "/v1/events/sre" };
        let (mut stream, body) = (silent(&service, head(path, PROTOBUF).as_bytes()).await.unwrap(), body.clone());
        // Blocks if the service refuses the rest.
        sending.spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&body)).await;
            stream
        });
    }
    while let Some(stream) = sending.join_next().await {
        stalled.push(stream.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = service.post("/v1/events/sre", "", vec![b' '; BODY]).await;
    assert_eq!(status, StatusCode::OK);
    client.finishes_within_bounds(&mut service).await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_grpc_streams_block_no_grpc() {
    let mut service = Attacked::start("client_timeout: 5s\n").await;
    let client = NormalClient::start_beside(&service).await;
    let mut held = Vec::new();
    for sent in [0, BODY / 2] {
        for _ in 0..8 {
            let mut stream = silent(&service, head(GRPC_TRACES, "application/grpc").as_bytes()).await.unwrap();
            let _ = stream.write_all(&vec![0; sent]).await;
            held.push(stream);
        }
    }
    // An empty message.
    for _ in 0..10 {
        assert_eq!(service.target.export("trace", vec![0; 5]).await, tonic::Code::Ok);
    }
    client.finishes_within_bounds(&mut service).await;
    drop(held);
}
