//! OTLP/gRPC, on the same address: HTTP/2 without TLS is told by its first bytes.

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

use super::error::ApiError;
use super::otlp::{Form, Signal};
use super::{body, ingest};
use crate::ServerLimits;
use crate::app::AppState;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

pub(crate) fn routes(server_limits: &ServerLimits) -> Router<Arc<AppState>> {
    // A message is read whole before anybody knows how large it is: no more of them at a time than all bodies may hold.
    let turns = Arc::new(Semaphore::new((server_limits.max_in_flight / server_limits.max_body.max(1)).max(1)));
    let export = post(move |State(context), request| export(context, turns.clone(), request));
    Router::new().route(TRACES, export.clone()).route(LOGS, export.clone()).route(METRICS, export)
}

async fn export(context: Arc<AppState>, turns: Arc<Semaphore>, request: Request) -> http::Response<Body> {
    let server_limits = context.config.server_limits;
    let path = request.uri().path().to_owned();
    let mut grpc =
        Grpc::new(Raw).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(server_limits.max_body);
    let _turn = turns.acquire().await;
    match tokio::time::timeout(server_limits.client_timeout, grpc.unary(Export { context, path }, request)).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => Status::deadline_exceeded("the message did not come in time").into_http(),
    }
}

/// Messages as their bytes: an adapter reads them, and nobody else need.
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
    context: Arc<AppState>,
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
        let Self { context, path } = self.clone();
        Box::pin(async move {
            let taken = take(&context, &path, request.into_inner()).await;
            taken.map(tonic::Response::new).map_err(|error| {
                ingest::count_refusal(&context, &error);
                status(&error)
            })
        })
    }
}

/// Takes a request in; the answer's bytes.
async fn take(context: &AppState, path: &str, bytes: Bytes) -> Result<Vec<u8>, ApiError> {
    let signal = match path {
        TRACES => Signal::Traces,
        LOGS => Signal::Logs,
        _ => Signal::Metrics,
    };
    let rejected = signal.take(context, body::with_permit(context, bytes)?, Form::Protobuf).await?;
    Ok(signal.protobuf(rejected))
}

fn status(error: &ApiError) -> Status {
    let told = error.rpc_status();
    Status::with_details(Code::from_i32(told.code), &error.message, told.encode_to_vec().into())
}
