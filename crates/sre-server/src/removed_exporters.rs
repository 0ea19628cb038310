use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use agent_sre::http::Outbox;
use agent_sre::private::lock;
use agent_sre::{Metric, Runtime, Spool, StoreError};

/// Deletes what waits in the spool for exporters that are no longer in the settings, and counts it.
#[derive(Debug, Default)]
pub(crate) struct RemovedExporters {
    /// The number of deleted records since the service was started, by exporter and kind.
    deleted: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// What the names of the other queues in the spool begin with. Names of exporters have no slash.
const SIGNALS: &str = "signals/";

impl RemovedExporters {
    /// Deletes what waits for exporters that `runtime` does not have. If the spool fails, it is left for the next time.
    pub(crate) fn clean(&self, spool: &dyn Spool, runtime: &Runtime) {
        let exporters: BTreeSet<&str> = runtime.exporters().iter().map(|outbox| outbox.exporter()).collect();
        if let Err(error) = self.try_clean(spool, &exporters) {
            tracing::error!(%error, "Cannot delete the records of removed exporters");
        }
    }

    fn try_clean(&self, spool: &dyn Spool, exporters: &BTreeSet<&str>) -> Result<(), StoreError> {
        for queue in spool.queues()? {
            let (exporter, kind) = match queue.strip_prefix(Outbox::STATE_QUEUES) {
                Some(exporter) => (exporter, "state"),
                None => (&*queue, "event"),
            };
            if queue.starts_with(SIGNALS) || exporters.contains(exporter) {
                continue;
            }
            let records = spool.size(&queue)?.records;
            spool.remove(&queue, u64::MAX)?;
            tracing::warn!(exporter, kind, records, "Deleted the records that waited for a removed exporter");
            *lock(&self.deleted).entry((exporter.to_owned(), kind)).or_default() += records;
        }
        Ok(())
    }

    /// Emits the counts as metrics.
    pub(crate) fn emit(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for ((exporter, kind), records) in &*lock(&self.deleted) {
            let labels = [("exporter", exporter.as_str()), ("kind", *kind), ("reason", "removed")];
            let dropped = Metric::counter("sre.exporter.dropped", *records as f64).with_labels(&labels);
            emit(dropped.with_help("Records dropped, by reason."));
        }
    }
}
