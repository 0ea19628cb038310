//! One connection of a client, and the time that the client has for each step.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_sre::private::lock;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Maximum number of concurrent requests on a connection.
const MAX_STREAMS: u32 = 32;
/// How long a connection outlives `client_timeout`: the answer 408 to a request that was too slow comes first.
const GRACE: Duration = Duration::from_secs(1);
/// The largest part of a response that is handed to the connection at once, and is then buffered until the client reads it.
const MAX_FRAME: usize = 8 << 10;

/// The client took longer than `client_timeout`.
#[derive(Debug)]
pub(crate) struct ClientTimeout;

/// Serves the requests of a connection that was accepted at some time.
///
/// A client that has not finished a request within `client_timeout` of connecting or of its last answer, or that stops reading an
/// answer for so long, is disconnected.
pub(crate) async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: watch::Receiver<Router>,
    client_timeout: Duration,
    accepted: Instant,
    watcher: Watcher,
) -> Result<(), ClientTimeout> {
    let exchanges = Arc::new(Exchanges::new(accepted, client_timeout + GRACE));
    let own = exchanges.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, exchange) = (router.borrow().clone(), Arc::new(Exchange::new(own.clone())));
        let request = request.map(|body| Body::new(RequestBody::new(body, exchange.clone())));
        async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(response.map(|body| ResponseBody { body, rest: Bytes::new(), exchange }))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(client_timeout);
    let http2 = &mut builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(Some(client_timeout)).max_concurrent_streams(MAX_STREAMS);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(client_timeout));
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service).into_owned();
    tokio::select! {
        // Other errors of a single connection, such as a reset, do not concern the service.
        ended = watcher.watch(connection) => match ended {
            Err(error) if is_timeout(&*error) => Err(ClientTimeout),
            _ => Ok(()),
        },
        () = exchanges.until_overdue() => Err(ClientTimeout),
    }
}

/// Returns whether an error or one of its causes is that a client was too slow.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut);
        io || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    })
}

/// Which side must act next in each exchange of a connection. The client's steps have deadlines.
#[derive(Debug)]
struct Exchanges {
    timeout: Duration,
    state: Mutex<ConnectionState>,
}

#[derive(Debug)]
struct ConnectionState {
    /// When the client must have finished a request, unless one is in progress.
    request_due: Instant,
    next: u64,
    exchanges: HashMap<u64, ExchangeState>,
}

#[derive(Clone, Copy, Debug)]
enum ExchangeState {
    /// The request arrives, until a time.
    Request(Instant),
    /// The service prepares the response, or its next part.
    Service,
    /// The client reads the response, until a time.
    Response(Instant),
}

impl Exchanges {
    fn new(accepted: Instant, timeout: Duration) -> Self {
        let state = ConnectionState { request_due: accepted + timeout, next: 0, exchanges: HashMap::new() };
        Self { timeout, state: Mutex::new(state) }
    }

    /// Returns once the client has taken too long.
    async fn until_overdue(&self) {
        loop {
            let due = self.due();
            // A step of the client that begins later is due later than this.
            tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + self.timeout)).await;
            if self.due().is_some_and(|due| due <= Instant::now()) {
                return;
            }
        }
    }

    /// Returns the client's next deadline; `None` if it waits for the service only.
    fn due(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let is_in_progress = |exchange: &ExchangeState| !matches!(exchange, ExchangeState::Request(_));
        let request_due = (!state.exchanges.values().any(is_in_progress)).then_some(state.request_due);
        let due = state.exchanges.values().filter_map(|exchange| match exchange {
            ExchangeState::Request(due) | ExchangeState::Response(due) => Some(*due),
            ExchangeState::Service => None,
        });
        due.chain(request_due).min()
    }
}

/// A request and its response.
#[derive(Debug)]
struct Exchange {
    exchanges: Arc<Exchanges>,
    number: u64,
}

impl Exchange {
    fn new(exchanges: Arc<Exchanges>) -> Self {
        let mut state = lock(&exchanges.state);
        let number = state.next;
        state.next += 1;
        state.exchanges.insert(number, ExchangeState::Request(Instant::now() + exchanges.timeout));
        drop(state);
        Self { exchanges, number }
    }

    fn change(&self, change: impl FnOnce(ExchangeState) -> ExchangeState) {
        if let Some(state) = lock(&self.exchanges.state).exchanges.get_mut(&self.number) {
            *state = change(*state);
        }
    }

    /// The whole request has arrived.
    fn received(&self) {
        self.change(|state| if matches!(state, ExchangeState::Request(_)) { ExchangeState::Service } else { state });
    }

    /// The client has a part of the response to read. An answer to a request that has not arrived prolongs nothing.
    fn sent(&self) {
        let due = Instant::now() + self.exchanges.timeout;
        self.change(
            |state| if matches!(state, ExchangeState::Request(_)) { state } else { ExchangeState::Response(due) },
        );
    }

    /// The client can take the next part.
    fn taken(&self) {
        self.change(|state| if matches!(state, ExchangeState::Request(_)) { state } else { ExchangeState::Service });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = lock(&self.exchanges.state);
        if !matches!(state.exchanges.remove(&self.number), None | Some(ExchangeState::Request(_))) {
            state.request_due = Instant::now() + self.exchanges.timeout;
        }
    }
}

/// A request's body, which notes when it has arrived.
struct RequestBody {
    body: Incoming,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    fn new(body: Incoming, exchange: Arc<Exchange>) -> Self {
        if body.is_end_stream() {
            exchange.received();
        }
        Self { body, exchange }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.exchange.received();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body in small parts, which notes when the client takes them.
struct ResponseBody {
    body: Body,
    /// What is left of the last part of `body`.
    rest: Bytes,
    exchange: Arc<Exchange>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.exchange.taken();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(MAX_FRAME);
        let part = self.rest.split_to(length);
        self.exchange.sent();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
