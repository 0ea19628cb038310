use std::sync::atomic::AtomicU64;

/// Counters of the input since the service was started.
#[derive(Debug, Default)]
pub(crate) struct IngestCounters {
    pub(crate) batches: AtomicU64,
    pub(crate) repeated_batches: AtomicU64,
    /// Spans, lines and log records, including those that could not be read.
    pub(crate) records: AtomicU64,
    /// Records that could not be read.
    pub(crate) rejected: AtomicU64,
    /// Events that senders have lost, as they report.
    pub(crate) lost_by_senders: AtomicU64,
}
