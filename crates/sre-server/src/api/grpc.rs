//! OTLP/gRPC, on the same address as HTTP.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::{Code, Status};

use super::body::with_permit;
use super::error::ApiError;
use super::ingest::count_refusal;
use super::otlp::{Encoding, Signal};
use crate::ServerLimits;
use crate::app::AppState;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

pub(crate) fn routes(server_limits: &ServerLimits) -> Router<Arc<AppState>> {
    // The size of a message is unknown until it is read, so the number of messages bounds their memory.
    let concurrency = Arc::new(Semaphore::new((server_limits.max_in_flight / server_limits.max_body.max(1)).max(1)));
    let export = post(move |State(state), request| export(state, concurrency.clone(), request));
    Router::new().route(TRACES, export.clone()).route(LOGS, export.clone()).route(METRICS, export)
}

async fn export(state: Arc<AppState>, concurrency: Arc<Semaphore>, request: Request) -> http::Response<Body> {
    let server_limits = state.config.server_limits;
    let path = request.uri().path().to_owned();
    let mut grpc =
        Grpc::new(Raw).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(server_limits.max_body);
    let _permit = concurrency.acquire().await;
    match tokio::time::timeout(server_limits.client_timeout, grpc.unary(Export { state, path }, request)).await {
        Ok(response) => response.map(Body::new),
        Err(_) => Status::deadline_exceeded("the message did not arrive in time (`client_timeout`)").into_http(),
    }
}

/// Passes messages as bytes; the adapter decodes them.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[derive(Clone)]
struct Export {
    state: Arc<AppState>,
    path: String,
}

impl tower::Service<tonic::Request<Bytes>> for Export {
    type Response = tonic::Response<Vec<u8>>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let Self { state, path } = self.clone();
        Box::pin(async move {
            let response = ingest(&state, &path, request.into_inner()).await;
            response.map(tonic::Response::new).map_err(|error| {
                count_refusal(&state, &error);
                status(&error)
            })
        })
    }
}

/// Ingests a request, and returns the encoded response.
async fn ingest(state: &AppState, path: &str, bytes: Bytes) -> Result<Vec<u8>, ApiError> {
    let signal = match path {
        TRACES => Signal::Traces,
        LOGS => Signal::Logs,
        _ => Signal::Metrics,
    };
    let rejected = signal.ingest(state, with_permit(state, bytes)?, Encoding::Protobuf).await?;
    Ok(signal.protobuf_response(rejected))
}

fn status(error: &ApiError) -> Status {
    let status = error.rpc_status();
    Status::with_details(Code::from_i32(status.code), &error.message, status.encode_to_vec().into())
}
