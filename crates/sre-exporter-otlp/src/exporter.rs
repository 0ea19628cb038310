use async_trait::async_trait;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use sre_core::{
    BackendApi, EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, Wants,
};
use sre_otlp::{OtlpRequest, Spans, gen_ai, send_spans};

use crate::metrics;
use crate::settings::{NAME, OtlpSettings, Protocol};

/// Sends metrics and events to an OTLP endpoint.
#[derive(Debug)]
pub struct OtlpExporter {
    api: BackendApi,
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
    pub fn new(settings: OtlpSettings) -> Result<Self, InvalidExporter> {
        let api = settings.api()?;
        let transport = match settings.protocol {
            Protocol::HttpProtobuf => Transport::Http,
            #[cfg(feature = "grpc")]
            Protocol::Grpc => Transport::Grpc(Box::new(crate::grpc::Grpc::new(&api)?)),
        };
        Ok(Self { api, transport })
    }

    async fn export_metrics(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let count = batch.metrics.len();
        if count == 0 {
            return Ok(ExportReport::default());
        }
        let points = metrics::encode(batch);
        let request = OtlpRequest::new(batch.resource, points.as_bytes());
        let partial = match &self.transport {
            Transport::Http => {
                let answer = sre_otlp::post(&self.api, "/v1/metrics", &request, batch.at, http).await?;
                ExportMetricsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success)
            }
            #[cfg(feature = "grpc")]
            Transport::Grpc(grpc) => grpc.export_metrics(&request, &self.api).await?,
        };
        Ok(partial.map_or_else(
            || ExportReport::accepted(count),
            |partial| {
                let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
                self.api.report(count, rejected, &partial.error_message)
            },
        ))
    }

    async fn export_spans(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let mut spans = Spans::with_capacity(batch.events.len());
        for event in batch.events {
            let Some(place) = EventSpan::of(event) else { continue };
            spans.add(|span| {
                let (name, kind) = gen_ai(event, &place, &mut span.attributes());
                span.name(&name);
                span.kind(kind);
                span.event_span(&place);
            });
        }
        let ignored = batch.events.len() - spans.len();
        let report = match &self.transport {
            Transport::Http => send_spans(&self.api, "/v1/traces", batch.resource, &spans, batch.at, http).await?,
            #[cfg(feature = "grpc")]
            Transport::Grpc(grpc) => grpc.export_spans(batch.resource, &spans, &self.api).await?,
        };
        Ok(report.with_ignored(ignored))
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
        let report = self.export_metrics(batch, http).await?.with_ignored(batch.snapshots.len());
        Ok(report.and(self.export_spans(batch, http).await?))
    }
}
