use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::config::{ServerLimits, Tls};

/// A certificate or key is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{file}: {source}, expected a PEM file")]
    Pem { file: String, source: rustls::pki_types::pem::Error },
    #[error("{file}: {source}")]
    Invalid { file: String, source: rustls::Error },
}

/// Reads a certificate chain and its key.
pub(crate) fn tls(files: &Tls) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &std::path::Path| {
        let file = path.display().to_string();
        move |source| TlsError::Pem { file, source }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect);
    let certificates = certificates.map_err(pem(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|source| TlsError::Invalid { file: files.certificate.display().to_string(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Maximum number of concurrent requests on a connection.
const MAX_STREAMS: u32 = 32;
/// How long connections may take to end when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections until `stop` is true, and then waits for the requests in progress. Each connection uses the current
/// certificate, and each request the current routes.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<TlsAcceptor>>,
    router: watch::Receiver<Router>,
    server_limits: ServerLimits,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(server_limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit,
            _ = stop.wait_for(|stopping| *stopping) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stopping| *stopping) => break,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the client is gone already: the next connection may succeed.
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Reap ended connections.
        while open.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        let (router, watcher, tls) = (router.clone(), graceful.watcher(), tls.borrow().clone());
        open.spawn(async move {
            let _permit = permit;
            match tls {
                None => connection(stream, router, server_limits, watcher).await,
                Some(tls) => {
                    // A client that does not complete the handshake must not occupy a connection.
                    let handshake = tokio::time::timeout(server_limits.client_timeout, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        connection(stream, router, server_limits, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("Closing connections that did not end in time");
        open.shutdown().await;
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: watch::Receiver<Router>,
    server_limits: ServerLimits,
    watcher: Watcher,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.borrow().clone();
        async move { Ok::<Response<Body>, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(server_limits.client_timeout);
    let http2 = &mut builder.http2();
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(server_limits.client_timeout))
        .max_concurrent_streams(MAX_STREAMS);
    // A client that does not read its response must not occupy a connection either.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(server_limits.client_timeout));
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service).into_owned();
    // Errors of a single connection, such as a reset, do not concern the service.
    let _: Result<(), Box<dyn std::error::Error + Send + Sync>> = watcher.watch(connection).await;
}
