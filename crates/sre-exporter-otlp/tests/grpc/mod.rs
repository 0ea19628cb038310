//! A collector that speaks gRPC, in front of the suite's HTTP server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Sends each decoded message to the server at `url`, and returns its response as a gRPC client sees it.
#[derive(Clone)]
pub(crate) struct Collector {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Collector {
    /// Starts a collector, and returns its URL. If nothing listens at `url`, no collector starts.
    pub(crate) fn start(url: &str) -> String {
        let server: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        if TcpStream::connect(server).is_err() {
            return url.to_owned();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        let collector = Self { url: url.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() };
        let metrics = MetricsServiceServer::new(collector.clone()).accept_compressed(CompressionEncoding::Gzip);
        let traces = TraceServiceServer::new(collector).accept_compressed(CompressionEncoding::Gzip);
        tokio::spawn(Server::builder().add_service(metrics).add_service(traces).serve_with_incoming(incoming));
        format!("http://{address}")
    }

    async fn forward<M: Message, R: Message + Default>(
        &self,
        path: &str,
        request: Request<M>,
    ) -> Result<Response<R>, Status> {
        let (metadata, _, message) = request.into_parts();
        let mut post = http::Request::post(format!("{}{path}", self.url)).body(message.encode_to_vec().into()).unwrap();
        *post.headers_mut() = metadata.into_headers();
        let lost = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let (head, body) = self.client.request(post).await.map_err(|error| lost(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| lost(&error))?.to_bytes();
        if head.status.is_success() {
            return Ok(Response::new(R::decode(body).unwrap()));
        }
        let wait = head.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        Err(status(head.status.as_u16(), wait, &String::from_utf8_lossy(&body)))
    }
}

/// Converts an HTTP status to the one that a collector gives over gRPC.
fn status(http: u16, wait_seconds: Option<u64>, message: &str) -> Status {
    let code = match http {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        413 => Code::ResourceExhausted,
        429 if wait_seconds.is_some() => Code::ResourceExhausted,
        429 | 503 => Code::Unavailable,
        500 => Code::Internal,
        other => panic!("no status for {other}"),
    };
    match wait_seconds {
        Some(seconds) => {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            Status::with_error_details(code, message, details)
        }
        None => Status::new(code, message),
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.forward("/v1/metrics", request).await
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.forward("/v1/traces", request).await
    }
}
