//! Connections of clients that speak HTTP as they should.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a client waits for an answer.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The service, as its clients reach it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsConnector>,
    /// The token to send events, and the one to read.
    pub(crate) tokens: Option<[&'static str; 2]>,
}

/// A connection that stays open.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Target {
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Connection::over(stream).await,
            Some(tls) => {
                let name = ServerName::try_from("localhost").expect("a valid name");
                Connection::over(tls.connect(name, stream).await?).await
            }
        }
    }

    /// Sends events over a connection.
    pub(crate) async fn post_events(&self, connection: &mut Connection, lines: String) -> Option<Response<Bytes>> {
        let request = Request::post("/v1/events/sre").header("authorization", self.bearer(0));
        connection.send(request, lines).await
    }

    /// Gets a path over a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Option<Response<Bytes>> {
        let request = Request::get(path).header("authorization", self.bearer(1));
        self.connect().await.ok()?.send(request, "").await
    }

    fn bearer(&self, number: usize) -> String {
        self.tokens.map(|tokens| format!("Bearer {}", tokens[number])).unwrap_or_default()
    }

    /// Exports a message in its frame by gRPC, and returns the status of the outcome.
    pub(crate) async fn export(&self, signal: &str, framed: Vec<u8>) -> tonic::Code {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut service = signal.to_owned();
        service[..1].make_ascii_uppercase();
        let path = format!("/opentelemetry.proto.collector.{signal}.v1.{service}Service/Export");
        let request = Request::post(format!("http://localhost{path}")).header("te", "trailers");
        let request = request.header("content-type", "application/grpc").header("grpc-encoding", "gzip");
        let response = requests.send_request(request.body(Full::<Bytes>::from(framed)).unwrap()).await.unwrap();
        assert_eq!(response.status(), http::StatusCode::OK, "gRPC has a status of its own");
        let (head, body) = response.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        let status = head.headers.get("grpc-status").or(trailers.get("grpc-status"));
        tonic::Code::from_bytes(status.expect("a status").as_bytes())
    }
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Self> {
        let (requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Returns the answer; `None` if the connection is closed, or there is no answer in time.
    async fn send(&mut self, request: http::request::Builder, body: impl Into<Bytes>) -> Option<Response<Bytes>> {
        let request = request.header("host", "localhost").body(Full::new(body.into())).expect("a valid request");
        let answer = async {
            self.0.ready().await.ok()?;
            let (head, body) = self.0.send_request(request).await.ok()?.into_parts();
            Some(Response::from_parts(head, body.collect().await.ok()?.to_bytes()))
        };
        tokio::time::timeout(MAX_WAIT, answer).await.ok()?
    }
}

/// Returns a connector that trusts a certificate alone.
pub(crate) fn trusting(certificate: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
