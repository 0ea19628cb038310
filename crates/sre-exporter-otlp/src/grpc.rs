use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use sre_core::private::lock;
use sre_core::{BackendApi, ExportError, ExportReport, HttpError, InvalidExporter, Resource};
use sre_otlp::{OtlpRequest, Spans};
use tonic::client;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::settings::NAME;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Maximum length of a backend's message in errors, in characters.
const MESSAGE_CHARS: usize = 200;

/// Sends requests over gRPC. Retries are up to the outbox, as over HTTP.
pub(crate) struct Grpc {
    endpoint: Endpoint,
    /// Created within the runtime that uses it, and again after a connection error.
    channel: Mutex<Option<Channel>>,
}

impl Grpc {
    pub(crate) fn new(api: &BackendApi) -> Result<Self, InvalidExporter> {
        let invalid = |_| InvalidExporter::new(NAME, "url", "expected a URL such as http://127.0.0.1:4317");
        let url = api.url("");
        let mut endpoint = Endpoint::from_shared(url.clone()).map_err(invalid)?;
        if url.starts_with("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(invalid)?;
        }
        Ok(Self { endpoint: endpoint.connect_timeout(CONNECT_TIMEOUT), channel: Mutex::new(None) })
    }

    pub(crate) async fn export_metrics(
        &self,
        request: &OtlpRequest<'_>,
        api: &BackendApi,
    ) -> Result<Option<ExportMetricsPartialSuccess>, ExportError> {
        let answer: ExportMetricsServiceResponse = self.call(METRICS, request, api).await?;
        Ok(answer.partial_success)
    }

    pub(crate) async fn export_spans(
        &self,
        resource: &Resource,
        spans: &Spans,
        api: &BackendApi,
    ) -> Result<ExportReport, ExportError> {
        if spans.is_empty() {
            return Ok(ExportReport::default());
        }
        let request = OtlpRequest::new(resource, spans.as_bytes());
        let answer: ExportTraceServiceResponse = self.call(TRACES, &request, api).await?;
        let partial = answer.partial_success.unwrap_or_default();
        Ok(api.report(spans.len(), u64::try_from(partial.rejected_spans).unwrap_or(0), &partial.error_message))
    }

    /// Calls a method with an encoded request.
    async fn call<T: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: &OtlpRequest<'_>,
        api: &BackendApi,
    ) -> Result<T, ExportError> {
        let request = with_headers(Bytes::from(request.parts().concat()), api);
        let mut client = client::Grpc::new(self.channel()).send_compressed(CompressionEncoding::Gzip);
        let call = async {
            client.ready().await.map_err(|error| Status::from_error(error.into()))?;
            client.unary(request, PathAndQuery::from_static(method), EncodedCodec(PhantomData)).await
        };
        self.answer(call, api).await
    }

    fn channel(&self) -> Channel {
        lock(&self.channel).get_or_insert_with(|| self.endpoint.connect_lazy()).clone()
    }

    /// Waits for the whole response, which the time-out of a tonic endpoint does not: it ends at the headers.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
        api: &BackendApi,
    ) -> Result<T, ExportError> {
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                if is_local(&status) || status.code() == Code::Unavailable {
                    self.disconnect();
                }
                Err(error(&status, api))
            }
            Err(_) => {
                self.disconnect();
                Err(HttpError::TimedOut { host: api.host().to_owned(), seconds: TIMEOUT.as_secs_f64() }.into())
            }
        }
    }

    fn disconnect(&self) {
        *lock(&self.channel) = None;
    }
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").finish_non_exhaustive()
    }
}

/// Sends a message that is encoded already, and decodes the response.
struct EncodedCodec<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for EncodedCodec<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T> Encoder for EncodedCodec<T> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl<T: Message + Default> Decoder for EncodedCodec<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

fn with_headers<T>(message: T, api: &BackendApi) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(api.headers().clone());
    request
}

/// Returns true if the client created the status for an error of the connection: only then does it have a source.
fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// Converts a status to an error. OTLP defines which ones may be retried.
///
/// Source: OTLP specification, "OTLP/gRPC response", "Failures".
fn error(status: &Status, api: &BackendApi) -> ExportError {
    let message = format!("{:?}: {}", status.code(), api.redact(status.message(), MESSAGE_CHARS));
    if is_local(status) {
        return HttpError::Unreachable { host: api.host().to_owned(), reason: message }.into();
    }
    let retry_after = retry_delay(status.details());
    let code = match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::DataLoss => 503,
        Code::DeadlineExceeded => 504,
        Code::ResourceExhausted if retry_after.is_some() => 429,
        // Without a delay to wait for, the cause is the size of the message.
        Code::ResourceExhausted | Code::OutOfRange => 413,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::Unknown | Code::Internal => 500,
        Code::Unimplemented => 404,
        _ => 400,
    };
    ExportError::Rejected { exporter: NAME.to_owned(), status: code, message, retry_after }
}

/// The part of `google.rpc.Status` that is read.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use sre_core::Secret;

    use super::*;
    use crate::OtlpSettings;

    #[test]
    fn status_codes_map_to_the_same_error_kinds_as_over_http() {
        let settings = OtlpSettings::new("http://collector:4317").with_header("api-key", Secret::new("s3cr3t"));
        let api = settings.api().unwrap();
        for (code, retryable, too_large, unauthorized) in [
            (Code::Unavailable, true, false, false),
            (Code::DeadlineExceeded, true, false, false),
            (Code::Aborted, true, false, false),
            (Code::ResourceExhausted, false, true, false),
            (Code::Unauthenticated, false, false, true),
            (Code::InvalidArgument, false, false, false),
        ] {
            let error = error(&Status::new(code, "no s3cr3t"), &api);
            let found = (error.is_retryable(), error.is_too_large(), error.is_unauthorized());
            assert_eq!(found, (retryable, too_large, unauthorized), "{error}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn an_error_of_the_client_is_no_answer() {
        let api = OtlpSettings::new("http://collector:4317").api().unwrap();
        // The code alone would be read as a message that is too large.
        let reset = std::io::Error::other(Status::resource_exhausted("h2 protocol error: enhance your calm"));
        let error = error(&Status::from_error(reset.into()), &api);
        assert!(error.is_unavailable() && !error.is_too_large(), "{error}");
        assert!(error.to_string().starts_with("cannot reach collector:4317: "), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_waited_for_ten_seconds() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let api = OtlpSettings::new(url).api().unwrap();
        let grpc = Grpc::new(&api).unwrap();
        let mut spans = Spans::default();
        spans.add(|span| span.name(&["task"]));
        let exported = grpc.export_spans(&Resource::new("tests"), &spans, &api).await;
        let error = exported.map(|_| ()).unwrap_err();
        assert!(matches!(error, ExportError::Http(HttpError::TimedOut { .. })), "{error}");
    }

    #[test]
    fn a_time_to_wait_is_read() {
        let delay = RetryInfo { retry_delay: Some(RetryDelay { seconds: 7, nanos: 500_000_000 }) };
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: delay.encode_to_vec() };
        let details = RpcStatus { details: vec![any] }.encode_to_vec();
        assert_eq!(retry_delay(&details), Some(Duration::from_millis(7_500)));
        assert_eq!(retry_delay(b"\xff"), None);
        let api = OtlpSettings::new("http://collector:4317").api().unwrap();
        let error = error(&Status::with_details(Code::ResourceExhausted, "busy", details.into()), &api);
        assert!(error.is_retryable() && error.is_unavailable(), "{error}");
    }
}
