//! Settings from the environment, the proxy and the trusted roots. Each test runs this executable again in a child
//! process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use sre_core::{HttpClient, HttpError};
use sre_http::{Client, Options};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Makes a request in a child process with that environment, and returns the result.
fn request(url: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in
        ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
    {
        command.env_remove(name);
    }
    command.args(["child", "--exact", "--nocapture"]).env("SRE_HTTP_TEST", url).envs(environment.iter().copied());
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    output.lines().find_map(|line| line.split_once("result: ")).map(|(_, result)| result.to_owned()).unwrap_or(output)
}

#[test]
fn child() {
    let Ok(url) = std::env::var("SRE_HTTP_TEST") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = http::Request::get(url).body(Bytes::new()).unwrap();
    let result = runtime.block_on(async { Client::new(Options::default()).unwrap().send(request).await });
    match result {
        Ok(answer) => println!("result: {} {}", answer.status().as_u16(), String::from_utf8_lossy(answer.body())),
        Err(error @ HttpError::Unreachable { .. }) => println!("result: unreachable {error}"),
        Err(error) => println!("result: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proxy_of_the_environment_is_used() {
    let proxy = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string("by proxy")).mount(&proxy).await;
    let url = "http://hooks.example.invalid/s3cr3t";
    assert_eq!(request(url, &[("HTTP_PROXY", &proxy.uri())]), "200 by proxy");
    let without = request(url, &[("HTTP_PROXY", &proxy.uri()), ("NO_PROXY", "example.invalid")]);
    assert!(without.starts_with("unreachable cannot reach hooks.example.invalid: "), "{without}");
}

#[test]
fn a_server_is_believed_when_the_system_trusts_who_signed_it() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, key.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // A client that does not trust the certificate hangs up.
            if stream.read(&mut [0; 1_024]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\ntrusted");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    assert_eq!(request(&url, &[("SSL_CERT_FILE", &roots.to_string_lossy())]), "200 trusted");
    let distrusted = request(&url, &[]);
    assert!(distrusted.starts_with("unreachable cannot reach localhost:"), "{distrusted}");
}
