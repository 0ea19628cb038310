use sre_core::{ExportBatch, ExportError, ExportReport, HttpClient, Metric, Resource, Timestamp, Usd};

use crate::distribution::Distribution;
use crate::event::DatadogEvent;
use crate::exporter::{DISTRIBUTIONS, DatadogExporter, EVENTS, SeriesBody};

impl DatadogExporter {
    /// Sends an event of your own, such as a deployment. `resource` is that of the [outbox](ExportBatch::resource).
    pub async fn submit_event(
        &self,
        event: &DatadogEvent,
        resource: &Resource,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let origin = self.organisation.origin.of(resource);
        self.send(EVENTS, &event.body(&origin, at), 1, at, http).await
    }

    /// Sends a metric of your own. A counter is the total so far, of which Datadog gets the change since the last call.
    pub async fn submit_metric(
        &self,
        metric: &Metric<'static>,
        resource: &Resource,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let origin = self.organisation.origin.of(resource);
        let batch = ExportBatch::new(at, resource).with_state(std::slice::from_ref(metric), &[]);
        self.export_metrics(&batch, &origin, http).await
    }

    /// Sends a cost that no event carries, as a value of the distribution `agent_sre.cost.usd`, which Datadog adds up.
    pub async fn export_cost(
        &self,
        agent: &str,
        cost: Usd,
        resource: &Resource,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let origin = self.organisation.origin.of(resource);
        let tags = origin.tags_with([("agent", agent)]);
        let distribution = Distribution::of_value("agent_sre.cost.usd", cost.as_dollars(), tags, &origin, at);
        self.send(DISTRIBUTIONS, &SeriesBody { series: &[distribution] }, 1, at, http).await
    }
}
