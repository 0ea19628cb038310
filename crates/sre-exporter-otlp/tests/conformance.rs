//! The conformance suite of exporters, over HTTP and over gRPC.

#[cfg(feature = "grpc")]
mod grpc;

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sre_core::{Exporter, Secret};
use sre_exporter_otlp::{OtlpExporter, OtlpSettings, Protocol};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::{Request, ResponseTemplate};

struct Collector(Protocol);

impl Backend for Collector {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = match self.0 {
            #[cfg(feature = "grpc")]
            // Of the time-outs of gRPC, the shorter one applies: this header's, as short as that of the suite's client.
            Protocol::Grpc => {
                OtlpSettings::new(grpc::Collector::start(url)).with_header("grpc-timeout", Secret::new("500m"))
            }
            _ => OtlpSettings::new(url),
        };
        let settings = settings.with_protocol(self.0).with_header("api-key", Secret::new(secret));
        Arc::new(OtlpExporter::new(settings).unwrap())
    }

    fn is_http(&self) -> bool {
        self.0 == Protocol::HttpProtobuf
    }

    fn success(&self, _request: &Request) -> ResponseTemplate {
        ResponseTemplate::new(200).insert_header("content-type", "application/x-protobuf")
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        if request.url.path() != "/v1/metrics" {
            return Some(otlp::rejects_one());
        }
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 1, error_message: "too old".to_owned() };
        let body = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        Some(ResponseTemplate::new(200).set_body_bytes(body))
    }

    fn check(&self, request: &Request) {
        let (content_type, encoding) = match self.is_http() {
            true => ("application/x-protobuf", "content-encoding"),
            false => ("application/grpc", "grpc-encoding"),
        };
        assert_eq!(request.headers["content-type"], content_type);
        assert_eq!(request.headers[encoding], "gzip");
        assert_eq!(request.headers["api-key"], SECRET);
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        if request.url.path() == "/v1/metrics" {
            arrived.metrics = metrics(&ExportMetricsServiceRequest::decode(&*otlp::body(request)).unwrap());
        } else {
            arrived.spans = otlp::spans(request).iter().map(span).collect();
        }
        arrived
    }
}

fn metrics(message: &ExportMetricsServiceRequest) -> Vec<(String, f64)> {
    let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let mut found = Vec::new();
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let points = match metric.data.as_ref().unwrap() {
            metric::Data::Gauge(gauge) => &gauge.data_points,
            metric::Data::Sum(sum) => &sum.data_points,
            metric::Data::ExponentialHistogram(histogram) => {
                found.extend(histogram.data_points.iter().map(|point| (metric.name.clone(), point.sum.unwrap())));
                continue;
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            let Some(number_data_point::Value::AsDouble(value)) = point.value else { panic!("{point:?}") };
            found.push((metric.name.clone(), value));
        }
    }
    found
}

fn span(span: &Span) -> ArrivedSpan {
    let value = |key| otlp::attribute(&span.attributes, key);
    let int = |key| value(key)?.as_i64();
    let usage = int("gen_ai.usage.input_tokens").map(|input_tokens| Usage {
        input_tokens,
        cached_input_tokens: int("gen_ai.usage.cache_read.input_tokens").unwrap(),
        output_tokens: int("gen_ai.usage.output_tokens").unwrap(),
        cost_usd: value("gen_ai.usage.cost").and_then(|cost| cost.as_f64()),
    });
    ArrivedSpan { usage, ..ArrivedSpan::from_otlp(span) }
}

#[tokio::test]
async fn otlp_over_http_conforms() {
    conformance::exporter(Collector(Protocol::HttpProtobuf)).await;
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn otlp_over_grpc_conforms() {
    conformance::exporter(Collector(Protocol::Grpc)).await;
}
