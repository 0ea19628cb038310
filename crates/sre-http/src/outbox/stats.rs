use std::borrow::Cow;
use std::collections::BTreeMap;

use sre_core::{ExportReport, Metric, MetricUnit, Rejection};

/// Counters of an outbox since its creation.
///
/// Received and restored records are sent, ignored, rejected or dropped, or they wait in memory or in the spool:
/// [`RecordCounts::settled`] + `queue_length` + `spool_length` = `received` + `restored` for events, and with
/// `state_queue_length` alone for metrics and snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// The exporter's name.
    pub exporter: String,
    /// Events.
    pub events: RecordCounts,
    /// Metrics and snapshots.
    pub state: RecordCounts,
    /// Events in memory that are not in the spool.
    pub queue_length: u64,
    /// Their approximate size in memory, in bytes.
    pub queue_bytes: u64,
    /// Events in the spool.
    pub spool_length: u64,
    /// Their size, in bytes.
    pub spool_bytes: u64,
    /// Metrics and snapshots that wait, those in flight included; after a shutdown, those in the spool.
    pub state_queue_length: u64,
    /// Batches that were sent again.
    pub retries: u64,
    /// Batches that failed.
    pub failures: u64,
    /// Failed reads and writes of the spool.
    pub spool_failures: u64,
    /// Whether the backend rejected the credentials, so that nothing is sent until
    /// [`Outbox::resume`](crate::Outbox::resume).
    pub is_halted: bool,
    /// The error of the last batch, or an empty string if it succeeded.
    pub last_error: String,
}

/// Counters of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Records that the outbox received.
    pub received: u64,
    /// Records that an earlier run left in the spool.
    pub restored: u64,
    /// Records that the backend accepted.
    pub sent: u64,
    /// Records without an equivalent in the backend.
    pub ignored: u64,
    /// Records that the backend rejected, by its reason.
    pub rejected: BTreeMap<Cow<'static, str>, u64>,
    /// Records that were dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue in memory was full.
    QueueFull,
    /// It waited longer than `max_age`.
    Expired,
    /// The backend rejected a batch of this record alone as too large.
    TooLarge,
    /// The backend responded with too many errors.
    RetriesExhausted,
    /// The exporter could not convert the batch to the backend's format.
    Invalid,
    /// The exporter's report did not include it.
    Unreported,
    /// It cannot be serialized, or cannot be read from the spool.
    Unreadable,
    /// It was a metric or snapshot, and newer ones replaced it before it was sent: too many waited, or the backend takes none
    /// so old.
    Superseded,
    /// It was still queued at shutdown, and not in a spool.
    Shutdown,
}

/// Maximum number of rejection reasons counted separately per backend; all others are counted together.
const MAX_REASONS: usize = 16;
const OTHER_REASONS: &str = "other";

impl DropReason {
    /// Returns the reason as a metric label, such as `queue_full`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Invalid => "invalid",
            Self::Unreported => "unreported",
            Self::Unreadable => "unreadable",
            Self::Superseded => "superseded",
            Self::Shutdown => "shutdown",
        }
    }
}

impl RecordCounts {
    /// Returns the number of records that were sent, ignored, rejected or dropped.
    pub fn settled(&self) -> u64 {
        self.sent + self.ignored + self.rejected.values().sum::<u64>() + self.dropped.values().sum::<u64>()
    }

    pub(super) fn drop(&mut self, reason: DropReason, count: usize) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count as u64;
        }
    }

    pub(super) fn reject(&mut self, rejection: &Rejection) {
        if rejection.count > 0 {
            let is_known = self.rejected.contains_key(&rejection.reason) || self.rejected.len() < MAX_REASONS;
            let reason = if is_known { rejection.reason.clone() } else { Cow::Borrowed(OTHER_REASONS) };
            *self.rejected.entry(reason).or_default() += rejection.count;
        }
    }

    /// Counts `settled` records by the exporter's report, which may not add up.
    pub(super) fn report(&mut self, report: &ExportReport, settled: usize) {
        let mut left = settled as u64;
        let mut take = |count: u64| {
            let count = count.min(left);
            left -= count;
            count
        };
        for Rejection { count, reason, .. } in &report.rejected {
            self.reject(&Rejection::new(take(*count), reason.clone()));
        }
        self.ignored += take(report.ignored);
        self.sent += take(report.accepted);
        self.drop(DropReason::Unreported, left as usize);
    }
}

impl OutboxStats {
    /// Emits the counts as metrics, labelled `exporter`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let exporter = ("exporter", self.exporter.as_str());
        let counter =
            |name, count: u64, help| Metric::counter(name, count as f64).with_labels(&[exporter]).with_help(help);
        let gauge = |name, value: u64, help| Metric::gauge(name, value as f64).with_labels(&[exporter]).with_help(help);
        for (kind, counts) in [("event", &self.events), ("state", &self.state)] {
            for (name, count, help) in [
                ("sre.exporter.received", counts.received, "Records received by the exporter."),
                ("sre.exporter.restored", counts.restored, "Records that an earlier run left in the spool."),
                ("sre.exporter.sent", counts.sent, "Records accepted by the backend."),
                ("sre.exporter.ignored", counts.ignored, "Records without an equivalent in the backend."),
            ] {
                emit(counter(name, count, help).with_label("kind", kind));
            }
            for (reason, count) in &counts.rejected {
                let rejected = counter("sre.exporter.rejected", *count, "Records rejected by the backend, by reason.");
                emit(rejected.with_label("kind", kind).with_label("reason", &**reason));
            }
            for (reason, count) in &counts.dropped {
                let dropped = counter("sre.exporter.dropped", *count, "Records dropped, by reason.");
                emit(dropped.with_label("kind", kind).with_label("reason", reason.as_str()));
            }
        }
        emit(counter("sre.exporter.retries", self.retries, "Batches sent again."));
        emit(counter("sre.exporter.failures", self.failures, "Batches that failed."));
        emit(counter("sre.exporter.spool_failures", self.spool_failures, "Failed reads and writes of the spool."));
        emit(gauge("sre.exporter.queue_length", self.queue_length, "Events waiting in memory."));
        let bytes = gauge("sre.exporter.queue_size", self.queue_bytes, "Size of the events waiting in memory.");
        emit(bytes.with_unit(MetricUnit::Bytes));
        emit(gauge("sre.exporter.spool_length", self.spool_length, "Events waiting in the spool."));
        let bytes = gauge("sre.exporter.spool_size", self.spool_bytes, "Size of the events waiting in the spool.");
        emit(bytes.with_unit(MetricUnit::Bytes));
        let waiting = "Metrics and snapshots waiting.";
        emit(gauge("sre.exporter.state_queue_length", self.state_queue_length, waiting));
        let help = "1 while nothing is sent because the backend rejected the credentials.";
        emit(gauge("sre.exporter.halted", u64::from(self.is_halted), help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_does_not_add_up_loses_nothing_silently() {
        let mut counts = RecordCounts::default();
        counts.report(&ExportReport::accepted(3).with_ignored(1), 10);
        assert_eq!((counts.sent, counts.ignored, counts.dropped[&DropReason::Unreported]), (3, 1, 6));
        counts.report(&ExportReport::accepted(7).with_rejected(9, "bad"), 10);
        assert_eq!((counts.sent, counts.rejected["bad"], counts.settled()), (4, 9, 20));
    }

    #[test]
    fn reasons_of_a_backend_are_bounded() {
        let mut counts = RecordCounts::default();
        for number in 0..100 {
            counts.report(&ExportReport::default().with_rejected(1, format!("id {number} is wrong")), 1);
        }
        assert_eq!((counts.rejected.len(), counts.rejected[OTHER_REASONS]), (MAX_REASONS + 1, 84));
        assert_eq!(counts.settled(), 100);
    }
}
