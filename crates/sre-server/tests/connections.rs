//! Clients that hold connections: each has a time to finish a request, and accepting goes on.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{Service, config, finished};
use http::Request;
use sre_server::{Config, ServerLimits, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that is open for longer is one that the service does not close.
const HANG: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

fn impatient(folder: &std::path::Path) -> Config {
    let server_limits = ServerLimits { client_timeout: CLIENT_TIMEOUT, ..ServerLimits::default() };
    Config { server_limits, ..config(folder) }
}

/// Sends the first bytes at once and the next again and again, until the connection is closed. Returns what was received.
async fn send_slowly(address: SocketAddr, first: &[u8], next: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let first = first.to_vec();
    let next = next.to_vec();
    let sending = tokio::spawn(async move {
        let mut sent = writer.write_all(&first).await;
        while sent.is_ok() {
            tokio::time::sleep(PAUSE).await;
            sent = writer.write_all(&next).await;
        }
    });
    let mut received = Vec::new();
    // Fails if the connection is reset, which closes it as well.
    let _ = reader.read_to_end(&mut received).await;
    sending.abort();
    received
}

/// What a client of HTTP/2 does that holds a connection.
#[derive(Clone, Copy)]
enum Http2 {
    AnswersPings,
    SendsPings,
    SendsNoBody(&'static str),
    SlowBody(&'static str),
    OpensAndResets,
    DoesNotRead,
}

/// Returns once the connection is closed.
async fn http2(address: SocketAddr, client: Http2) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    if matches!(client, Http2::DoesNotRead) {
        builder.initial_window_size(0);
    }
    let (mut requests, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let own = tokio::spawn(async move {
        let request = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(format!("http://localhost{path}"));
            request.header("content-type", "application/grpc").body(()).unwrap()
        };
        match client {
            Http2::AnswersPings => std::future::pending::<()>().await,
            Http2::SendsPings => {
                while pings.ping(h2::Ping::opaque()).await.is_ok() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Http2::SendsNoBody(path) => {
                let _open = requests.send_request(request("POST", path), false).unwrap();
                std::future::pending::<()>().await;
            }
            Http2::SlowBody(path) => {
                let (_response, mut body) = requests.send_request(request("POST", path), false).unwrap();
                while body.send_data(Bytes::from_static(b" "), false).is_ok() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Http2::OpensAndResets => {
                while let Ok((_response, mut body)) = requests.send_request(request("POST", "/v1/gate"), false) {
                    tokio::time::sleep(PAUSE).await;
                    body.send_reset(h2::Reason::CANCEL);
                }
            }
            Http2::DoesNotRead => {
                let (response, _) = requests.send_request(request("GET", "/openapi.json"), true).unwrap();
                let _unread = response.await;
                std::future::pending::<()>().await;
            }
        }
        drop(requests);
    });
    // Fails if the connection is reset, which closes it as well.
    let _ = connection.await;
    own.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_finish_a_request_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(impatient(folder.path())).await;
    let address = service.server.address();
    let mut closing = JoinSet::new();
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n");
    for (name, first, next, status) in [
        ("silent", String::new(), "", ""),
        ("one byte", "P".into(), "", ""),
        ("a head byte by byte", "GET /healthz HTTP/1.1\r\nX: ".into(), "x", ""),
        ("no body", head("/v1/events/sre"), "", "HTTP/1.1 408"),
        ("a body byte by byte", head("/v1/events/sre"), " ", "HTTP/1.1 408"),
        ("no body, of another handler", head("/v1/gate"), "", ""),
        ("idle after an answer", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "", "HTTP/1.1 200"),
        ("a body behind an answer", head("/v1/live").replace("POST", "GET"), " ", "HTTP/1.1 200"),
    ] {
        closing.spawn(async move {
            let closed = tokio::time::timeout(HANG, send_slowly(address, first.as_bytes(), next.as_bytes())).await;
            let received = closed.unwrap_or_else(|_| panic!("{name}: the connection stays open"));
            let received = String::from_utf8_lossy(&received).into_owned();
            assert!(received.starts_with(status), "{name}: {received}");
        });
    }
    const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (name, client) in [
        ("answers pings", Http2::AnswersPings),
        ("sends pings", Http2::SendsPings),
        ("no body", Http2::SendsNoBody("/v1/events/sre")),
        ("no body, of another handler", Http2::SendsNoBody("/v1/gate")),
        ("no message", Http2::SendsNoBody(GRPC)),
        ("a body byte by byte", Http2::SlowBody("/v1/gate")),
        ("a message byte by byte", Http2::SlowBody(GRPC)),
        ("a body behind an answer", Http2::SlowBody("/v1/nothing")),
        ("opens and resets streams", Http2::OpensAndResets),
        ("does not read", Http2::DoesNotRead),
    ] {
        closing.spawn(async move {
            let closed = tokio::time::timeout(HANG, http2(address, client)).await;
            assert!(closed.is_ok(), "HTTP/2, {name}: the connection stays open");
        });
    }
    while let Some(outcome) = closing.join_next().await {
        outcome.unwrap();
    }
    let scrape = service.get_raw("/metrics").await;
    let text = String::from_utf8_lossy(scrape.body());
    let timed_out = text.lines().find_map(|line| line.strip_prefix("sre_server_timed_out_connections_total "));
    assert!(timed_out.unwrap().parse::<usize>().unwrap() >= 10, "{timed_out:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_finish_the_tls_handshake_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new(folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&tls.certificate, own.cert.pem()).unwrap();
    std::fs::write(&tls.key, own.signing_key.serialize_pem()).unwrap();
    let service = Service::start(Config { tls: Some(tls), ..impatient(folder.path()) }).await;
    // The head of a record of 16 KiB, and then its bytes one by one.
    for first in [&b""[..], b"\x16\x03\x01\x40\x00\x01"] {
        let closed =
            tokio::time::timeout(HANG, send_slowly(service.server.address(), first, &first[..first.len().min(1)]))
                .await;
        assert!(closed.is_ok(), "the connection stays open");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_live_updates_stays_connected() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(impatient(folder.path())).await;
    let address = service.server.address();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (mut requests, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let (response, _) =
        requests.send_request(Request::get("http://localhost/v1/live").body(()).unwrap(), true).unwrap();
    let mut live = response.await.unwrap().into_body();
    let mut part = vec![0; 64 << 10];
    for task in 0..8 {
        service.events(&finished("a", task, true)).await;
        tokio::time::sleep(CLIENT_TIMEOUT / 2).await;
        assert!(plain.read(&mut part).await.unwrap() > 0, "HTTP/1: closed at task {task}");
        let data = live.data().await.unwrap_or_else(|| panic!("HTTP/2: closed at task {task}")).unwrap();
        live.flow_control().release_capacity(data.len()).unwrap();
    }
    drop((live, requests));
    connection.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_goes_on_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_connections: 4, ..impatient(folder.path()).server_limits };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let address = service.server.address();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let refused = tokio::time::timeout(CLIENT_TIMEOUT / 2, send_slowly(address, b"", b"")).await;
    assert_eq!(refused.expect("closed before the others time out"), b"");
    // Their time is up.
    for silent in &mut silent {
        let _ = silent.read(&mut [0]).await;
    }
    service.events(&finished("a", 1, true)).await;
    let scrape = async || String::from_utf8_lossy(service.get_raw("/metrics").await.body()).into_owned();
    let mut text = scrape().await;
    // A closed connection counts until its task has ended.
    for _ in 0..100 {
        if text.contains("sre_server_connections 1\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        text = scrape().await;
    }
    for line in [
        "sre_server_refused_connections_total{limit=\"max_connections\"} 1",
        "sre_server_refused_connections_total{limit=\"max_connections_per_address\"} 0",
        "sre_server_timed_out_connections_total 4",
        "sre_server_connections 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
