use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use agent_sre::private::lock;
use agent_sre::{Metric, Runtime, Spool, StoreError};

/// Deletes the events that wait in the spool for exporters that are no longer in the settings, and counts them.
#[derive(Debug, Default)]
pub(crate) struct RemovedExporters {
    /// The number of deleted events since the service was started, by exporter.
    deleted: Mutex<BTreeMap<String, u64>>,
}

/// What the names of the other queues in the spool begin with. Names of exporters have no slash.
const SIGNALS: &str = "signals/";

impl RemovedExporters {
    /// Deletes what waits for exporters that `runtime` does not have. If the spool fails, it is left for the next time.
    pub(crate) fn clean(&self, spool: &dyn Spool, runtime: &Runtime) {
        let exporters: BTreeSet<&str> = runtime.exporters().iter().map(|outbox| outbox.exporter()).collect();
        if let Err(error) = self.try_clean(spool, &exporters) {
            tracing::error!(%error, "Cannot delete the events of removed exporters");
        }
    }

    fn try_clean(&self, spool: &dyn Spool, exporters: &BTreeSet<&str>) -> Result<(), StoreError> {
        for queue in spool.queues()? {
            if queue.starts_with(SIGNALS) || exporters.contains(&*queue) {
                continue;
            }
            let events = spool.size(&queue)?.records;
            spool.remove(&queue, u64::MAX)?;
            tracing::warn!(exporter = queue, events, "Deleted the events that waited for a removed exporter");
            *lock(&self.deleted).entry(queue).or_default() += events;
        }
        Ok(())
    }

    /// Emits the counts as metrics.
    pub(crate) fn emit(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for (exporter, events) in &*lock(&self.deleted) {
            let labels = [("exporter", exporter.as_str()), ("kind", "event"), ("reason", "removed")];
            let dropped = Metric::counter("sre.exporter.dropped", *events as f64).with_labels(&labels);
            emit(dropped.with_help("Records dropped, by reason."));
        }
    }
}
