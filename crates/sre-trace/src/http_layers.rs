use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::{NAMES, TraceContext};
use crate::mcp_headers::McpHeaders;
use crate::protocol_span::ProtocolSpan;
use crate::tracer::ProtocolTracer;

/// Traces the requests of an HTTP client.
///
/// Every request is a client span until the head of its response, and its headers have the context of that span. It is below the tracer in
/// the extensions of the request, or else below that of the layer. [`McpHeaders`] in the extensions are written into the headers; a span
/// whose request has such headers is named by them, too: `POST tools/call search`.
///
/// ```
/// use http::{Request, Response};
/// use sre_trace::{ProtocolTracer, TracedClientLayer, TracedServerLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = ProtocolTracer::new("server");
/// let service = ServiceBuilder::new().layer(TracedServerLayer::new(&server)).service_fn(async |request: Request<()>| {
///     let tracer = request.extensions().get::<ProtocolTracer>().unwrap();
///     Ok::<_, std::convert::Infallible>(Response::new(tracer.trace_id()))
/// });
///
/// let agent = ProtocolTracer::new("agent");
/// let client = ServiceBuilder::new().layer(TracedClientLayer::new(&agent)).service(service);
/// let response = client.oneshot(Request::get("http://server.example/orders").body(()).unwrap()).await.unwrap();
/// let spans = agent.protocol_spans();
/// assert_eq!(*response.body(), spans[0].span.trace_id);
/// assert_eq!(server.protocol_spans()[0].span.parent_span_id, Some(spans[0].span.span_id));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TracedClientLayer {
    tracer: ProtocolTracer,
}

impl TracedClientLayer {
    /// Creates a layer whose requests are below a tracer.
    pub fn new(tracer: &ProtocolTracer) -> Self {
        Self { tracer: tracer.clone() }
    }
}

impl<S> Layer<S> for TracedClientLayer {
    type Service = TracedClient<S>;

    fn layer(&self, client: S) -> TracedClient<S> {
        TracedClient { client, tracer: self.tracer.clone() }
    }
}

/// An HTTP client in a [`TracedClientLayer`].
#[derive(Clone, Debug)]
pub struct TracedClient<S> {
    client: S,
    tracer: ProtocolTracer,
}

impl<S, B, R> Service<Request<B>> for TracedClient<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TracedResponse<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(mcp) = request.extensions_mut().remove::<McpHeaders>() {
            mcp.write(request.headers_mut());
        }
        let tracer = request.extensions().get().unwrap_or(&self.tracer);
        let (uri, method) = (request.uri(), request.method().as_str());
        let host = || request.headers().get(HOST)?.to_str().ok();
        let host = uri.authority().map(http::uri::Authority::as_str).or_else(host).unwrap_or_default();
        // Without the user and the password.
        let host = host.rsplit('@').next().unwrap_or_default();
        let target = format!("{}://{host}", uri.scheme_str().unwrap_or("http"));
        let span = tracer.named_http_call(span_name(&request), &target, method, uri.path());
        write_headers(span.context(), request.headers_mut());
        TracedResponse { response: self.client.call(request), span: Some(span) }
    }
}

/// Traces the requests that an HTTP server receives.
///
/// Every request is a server span until the head of its response, below the span that its headers name. The tracer below it is in the
/// extensions of the request. A request with [`McpHeaders`] is named by them, too: `POST tools/call search`. See [`TracedClientLayer`] for an
/// example.
#[derive(Clone, Debug)]
pub struct TracedServerLayer {
    tracer: ProtocolTracer,
}

impl TracedServerLayer {
    /// Creates a layer. The tracer is that of the server.
    pub fn new(tracer: &ProtocolTracer) -> Self {
        Self { tracer: tracer.clone() }
    }
}

impl<S> Layer<S> for TracedServerLayer {
    type Service = TracedServer<S>;

    fn layer(&self, service: S) -> TracedServer<S> {
        TracedServer { service, tracer: self.tracer.clone() }
    }
}

/// An HTTP service in a [`TracedServerLayer`].
#[derive(Clone, Debug)]
pub struct TracedServer<S> {
    service: S,
    tracer: ProtocolTracer,
}

impl<S, B, R> Service<Request<B>> for TracedServer<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TracedResponse<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (headers, method, path) = (request.headers(), request.method().as_str(), request.uri().path());
        let span = self.tracer.receive_named_http(span_name(&request), headers, method, path);
        request.extensions_mut().insert(span.tracer());
        TracedResponse { response: self.service.call(request), span: Some(span) }
    }
}

pin_project! {
    /// The response of a [`TracedClient`] or a [`TracedServer`]. If it is dropped before, the request was cancelled.
    #[derive(Debug)]
    pub struct TracedResponse<F> {
        #[pin]
        response: F,
        span: Option<ProtocolSpan>,
    }
}

impl<F: Future<Output = Result<Response<R>, E>>, R, E> Future for TracedResponse<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(context));
        if let Some(mut span) = this.span.take() {
            match &response {
                Ok(response) => span.set_status(response.status().as_u16()),
                // The error may have the URL with its secrets.
                Err(_) => span.set_error("the request failed"),
            }
        }
        Poll::Ready(response)
    }
}

/// Returns the name of the span of a request: its method, and the call of MCP that its headers tell of.
fn span_name<B>(request: &Request<B>) -> String {
    let method = request.method().as_str();
    McpHeaders::read(request.headers()).map_or_else(|| method.to_owned(), |mcp| mcp.span_name(method))
}

/// Writes a context into the headers of a request. What another span has written is replaced.
fn write_headers(context: &TraceContext, headers: &mut HeaderMap) {
    NAMES.iter().for_each(|name| _ = headers.remove(*name));
    for (name, value) in context.to_headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
