#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sre_server::{Config, Scope, Server, Token};
use tokio::runtime::Runtime;

/// The SHA-256 digest of `sre_fuzz`.
const DIGEST: [u8; 32] = [
    0xf0, 0x1b, 0x5c, 0x0a, 0x6e, 0x91, 0x2d, 0x75, 0x56, 0x1b, 0x64, 0x7e, 0xba, 0x57, 0x99, 0xf8,
    0xe5, 0x94, 0x25, 0x96, 0x1b, 0xc6, 0xbc, 0x10, 0xcd, 0xc6, 0xe5, 0xe9, 0x04, 0x2d, 0x9c, 0x89,
];

// A sequence of requests, separated by the byte 0x1e. The first line of each is method and path, then come the content type, the
// content encoding, the authorization, the values of four more headers, and the body. If the first byte is 0x1f, the service has a
// token to send and one to read. Whatever they are, the service answers each of them, none by an internal error, and is ready afterwards.
fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let (requests, scopes): (&[u8], &[Scope]) = match data.strip_prefix(b"\x1f") {
        Some(requests) => (requests, &[Scope::Ingest, Scope::Read]),
        None => (data, &[]),
    };
    let tokens = scopes.iter().map(|scope| Token::new(scope.as_str(), *scope, DIGEST)).collect();
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config = Config { listen, data: folder.path().into(), tokens, ..Config::default() };
    let server = runtime.block_on(Server::start(config)).expect("a service");
    for request in requests.split(|byte| *byte == 0x1e) {
        let mut parts = request.splitn(9, |byte| *byte == b'\n');
        let [line, kind, encoding, authorization, key, last_event, origin, lost, body] =
            [(); 9].map(|()| parts.next().unwrap_or_default());
        let headers = [
            (&b"content-type"[..], kind),
            (b"content-encoding", encoding),
            (b"grpc-encoding", encoding),
            (b"authorization", authorization),
            (b"idempotency-key", key),
            (b"last-event-id", last_event),
            (b"origin", origin),
            (b"sre-lost-events", lost),
        ];
        let status = send(server.address(), line, &headers, body);
        assert!(status < 500, "{} answers {status}", String::from_utf8_lossy(line));
    }
    assert_eq!(send(server.address(), b"GET /readyz", &[], b""), 200);
    runtime.block_on(server.stop());
});

/// Returns the status of an answer.
fn send(to: SocketAddr, line: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut head = [line, b" HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"].concat();
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    head.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    // The service may refuse a request before it was sent whole.
    let _ = stream.write_all(&[&head, body].concat());
    let (mut answer, mut part) = (Vec::new(), [0; 4 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..length]);
        // A stream of events does not end.
        let head = String::from_utf8_lossy(&answer[..answer.len().min(part.len())]);
        if head.split_once("\r\n\r\n").is_some_and(|(head, _)| head.contains("text/event-stream")) {
            break;
        }
    }
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(line)))
}
