use std::io::Write;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use sre_core::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Secret, Timestamp, Wants, send_export};

use crate::partial_success::{NAME, PartialRejection, REASON_CHARS};
use crate::settings::{Checked, InvalidSettings, OtlpSettings, Protocol};
use crate::{metrics, spans};

/// Sends metrics and events to an OTLP endpoint.
#[derive(Debug)]
pub struct OtlpExporter {
    settings: Checked,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Http,
    #[cfg(feature = "grpc")]
    Grpc(Box<crate::grpc::Grpc>),
}

impl OtlpExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: OtlpSettings) -> Result<Self, InvalidSettings> {
        let checked = Checked::try_from(&settings)?;
        let transport = match settings.protocol {
            Protocol::HttpProtobuf => Transport::Http,
            #[cfg(feature = "grpc")]
            Protocol::Grpc => Transport::Grpc(Box::new(crate::grpc::Grpc::new(&checked)?)),
        };
        Ok(Self { settings: checked, transport })
    }

    async fn export_metrics(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let request = metrics::request(batch);
        let refused = match &self.transport {
            Transport::Http => {
                let answer = self.post("/v1/metrics", &request, batch.at, http).await?;
                let partial =
                    ExportMetricsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
                partial.map(|partial| PartialRejection::new(partial.rejected_data_points, partial.error_message))
            }
            #[cfg(feature = "grpc")]
            Transport::Grpc(grpc) => grpc.export_metrics(request, &self.settings).await?,
        };
        Ok(self.report(batch.metrics.len(), refused))
    }

    async fn export_spans(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let (request, count) = spans::request(batch);
        let ignored = batch.events.len() - count;
        if count == 0 {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let refused = match &self.transport {
            Transport::Http => {
                let answer = self.post("/v1/traces", &request, batch.at, http).await?;
                let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
                partial.map(|partial| PartialRejection::new(partial.rejected_spans, partial.error_message))
            }
            #[cfg(feature = "grpc")]
            Transport::Grpc(grpc) => grpc.export_spans(request, &self.settings).await?,
        };
        Ok(self.report(count, refused).with_ignored(ignored))
    }

    fn report(&self, count: usize, refused: Option<PartialRejection>) -> ExportReport {
        let Some(PartialRejection { count: refused, reason }) = refused else { return ExportReport::accepted(count) };
        let refused = refused.min(count as u64);
        let reason = self.settings.redacted(&reason, REASON_CHARS);
        ExportReport::accepted(count - refused as usize).with_rejected(refused, reason)
    }

    async fn post(
        &self,
        path: &str,
        message: &impl Message,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Bytes, ExportError> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let invalid =
            |what: &dyn std::fmt::Display| ExportError::invalid(NAME, format!("cannot make a request: {what}"));
        let written = encoder.write_all(&message.encode_to_vec());
        let body = written.and_then(|()| encoder.finish()).map_err(|error| invalid(&error))?;
        let mut request = http::Request::post(format!("{}{path}", self.settings.endpoint))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "gzip")
            .body(Bytes::from(body))
            .map_err(|error| invalid(&error))?;
        request.headers_mut().extend(self.settings.headers.iter().cloned());
        let secrets: Vec<&Secret> = self.settings.secrets.iter().collect();
        Ok(send_export(NAME, request, &secrets, at, http).await?.into_body())
    }
}

#[async_trait]
impl Exporter for OtlpExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS.and_metrics()
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let mut report = ExportReport::default().with_ignored(batch.snapshots.len());
        if !batch.metrics.is_empty() {
            report = report.and(self.export_metrics(batch, http).await?);
        }
        Ok(report.and(self.export_spans(batch, http).await?))
    }
}
