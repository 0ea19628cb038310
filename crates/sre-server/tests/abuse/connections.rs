//! Clients that hold connections, streams and memory without ever finishing a request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::attacked::Attacked;
use crate::bodies::{BODY, PROTOBUF};
use crate::honest::Honest;

const GRPC_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Connects, sends something and nothing more.
async fn silent(service: &Attacked, first: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(service.address).await.ok()?;
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
    let honest = Honest::beside(&service).await;
    let post = head("/v1/traces", PROTOBUF);
    for first in [Some(&b""[..]), Some(b"P"), Some(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(post.as_bytes()), None] {
        let (mut held, mut pinging) = (Vec::new(), JoinSet::new());
        for _ in 0..100 {
            match first {
                Some(first) => held.extend(silent(&service, first).await),
                None => drop(pinging.spawn(answer_pings(service.address))),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let first = first.map(String::from_utf8_lossy);
        assert!(!is_served(&service).await, "{first:?} takes no connections from others: the attack is none");
        // Their time is over, and new clients are served.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(is_served(&service).await, "{first:?}");
    }
    honest.ends_unharmed(&mut service).await;
}

/// Returns whether a new client is served.
async fn is_served(service: &Attacked) -> bool {
    let Some(mut stream) =
        silent(service, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await
    else {
        return false;
    };
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer.starts_with("HTTP/1.1 200")
}

/// Asks over TLS whether the service is alive. Returns the status line.
async fn ask_over_tls(service: &Attacked, certificate: &Path) -> std::io::Result<String> {
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(service.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stall_end_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = folder.path().join("cert.pem");
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let settings = "max_connections: 64\nclient_timeout: 1s\ntls: {certificate: cert.pem, key: key.pem}\n";
    let service = Attacked::start_in(folder, settings).await;
    assert_eq!(ask_over_tls(&service, &certificate).await.unwrap(), "HTTP/1.1 200 OK");
    let mut held = Vec::new();
    for _ in 0..100 {
        held.extend(silent(&service, b"\x16\x03\x01\x40\x00\x01").await);
    }
    let refused = ask_over_tls(&service, &certificate).await;
    assert!(refused.is_err(), "the attack takes all connections: {refused:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ask_over_tls(&service, &certificate).await.unwrap(), "HTTP/1.1 200 OK");
    drop(held);
}

/// Bodies that lack their last byte hold all memory for bodies, until somebody else needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_bodies_take_no_memory_from_others() {
    let mut service = Attacked::start("max_in_flight: 192MiB\n").await;
    let honest = Honest::beside(&service).await;
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
    honest.ends_unharmed(&mut service).await;
    drop(stalled);
}

#[cfg(feature = "grpc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_grpc_streams_block_no_grpc() {
    let mut service = Attacked::start("client_timeout: 5s\n").await;
    let honest = Honest::beside(&service).await;
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
        assert_eq!(service.post(GRPC_TRACES, "application/grpc", vec![0; 5]).await, StatusCode::OK);
    }
    honest.ends_unharmed(&mut service).await;
    drop(held);
}
