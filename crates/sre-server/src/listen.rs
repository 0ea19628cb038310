use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::admission::Admission;
use crate::config::Tls;
use crate::connection::{ClientTimeout, serve_connection};

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

/// How long connections may take to end when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections until `stop` is true, and then waits for the requests in progress. Each connection uses the current
/// certificate, and each request the current routes. A connection beyond a limit is closed at once, so that accepting goes on.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<TlsAcceptor>>,
    router: watch::Receiver<Router>,
    admission: Arc<Admission>,
    client_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stopping| *stopping) => break,
        };
        // Reap ended connections.
        while open.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the client has already disconnected: the next connection may succeed.
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(admitted) = admission.admit(address.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let (router, watcher, tls) = (router.clone(), graceful.watcher(), tls.borrow().clone());
        open.spawn(async move {
            if serve_client(stream, tls, router, client_timeout, watcher).await.is_err() {
                admitted.count_timeout();
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("Closing connections that did not end in time");
        open.shutdown().await;
    }
}

async fn serve_client(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: watch::Receiver<Router>,
    client_timeout: Duration,
    watcher: Watcher,
) -> Result<(), ClientTimeout> {
    let accepted = Instant::now();
    let Some(tls) = tls else { return serve_connection(stream, router, client_timeout, accepted, watcher).await };
    match tokio::time::timeout_at(accepted + client_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, router, client_timeout, accepted, watcher).await,
        Ok(Err(_)) => Ok(()),
        Err(_) => Err(ClientTimeout),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    /// Connects from an address, and returns the status line of an answer; it is empty if the connection was closed.
    async fn ask(from: &str, to: std::net::SocketAddr) -> (String, Option<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut answer = [0; 15];
        let length = stream.read(&mut answer).await.unwrap_or(0);
        (String::from_utf8_lossy(&answer[..length]).into_owned(), Some(stream))
    }

    #[tokio::test]
    async fn an_address_at_its_limit_leaves_the_others_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let (_tls, tls) = watch::channel(None);
        let (_routes, router) = watch::channel(Router::new().route("/", get(async || "")));
        // Loopback addresses are not exempt here, so that they stand for clients of other machines.
        let admission = Arc::new(Admission::with_exempt(100, 2, vec!["127.0.0.3/32".parse().unwrap()]));
        let serving = tokio::spawn(serve(listener, tls, router, admission, Duration::from_secs(30), stopped));
        let mut held = vec![ask("127.0.0.2", address).await, ask("127.0.0.2", address).await];
        assert!(held.iter().all(|(status, _)| status == "HTTP/1.1 200 OK"));
        assert_eq!(ask("127.0.0.2", address).await.0, "", "the third is closed at once");
        for from in ["127.0.0.4", "127.0.0.3", "127.0.0.3", "127.0.0.3"] {
            held.push(ask(from, address).await);
            assert_eq!(held.last().unwrap().0, "HTTP/1.1 200 OK", "{from}");
        }
        drop(held.remove(0));
        while ask("127.0.0.2", address).await.0.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        serving.abort();
    }
}
