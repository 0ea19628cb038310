#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sre_server::{Config, Server};
use tokio::runtime::Runtime;

// A sequence of requests, separated by the byte 0x1e. The first line of each is method and path, the second the content type, and
// the rest the body. Whatever they are, the service answers each of them, none by an internal error, and is ready afterwards.
fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let config =
        Config { listen: "127.0.0.1:0".parse().expect("an address"), data: folder.path().into(), ..Config::default() };
    let server = runtime.block_on(Server::start(config)).expect("a service");
    for request in data.split(|byte| *byte == 0x1e) {
        let mut parts = request.splitn(3, |byte| *byte == b'\n');
        let [line, kind, body] = [(); 3].map(|()| parts.next().unwrap_or_default());
        // Events without end are no answer that one can wait for.
        if !line.windows(8).any(|part| part == b"/v1/live") {
            let status = send(server.address(), line, kind, body);
            assert!(status < 500, "{} answers {status}", String::from_utf8_lossy(line));
        }
    }
    assert_eq!(send(server.address(), b"GET /readyz", b"", b""), 200);
    runtime.block_on(server.stop());
});

/// Returns the status of an answer.
fn send(to: SocketAddr, line: &[u8], kind: &[u8], body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let length = format!("content-length: {}", body.len());
    let head = [
        line,
        b" HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: ",
        kind,
        b"\r\n",
        length.as_bytes(),
        b"\r\n\r\n",
    ];
    // The service may refuse a request before it was sent whole.
    let _ = stream.write_all(&[&head.concat(), body].concat());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(line)))
}
