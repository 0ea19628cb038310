use super::Outbox;

/// The copies of waiting readings in the spool. While the backend is away, each reading is copied, so that a restart loses none; they
/// are sent from memory.
#[derive(Debug)]
pub(super) struct StateSpool {
    /// Whether the readings of an earlier run are still to be read.
    pub(super) is_load_due: bool,
    /// The id of the last record.
    pub(super) last: u64,
    /// Records up to this id have been removed from the spool.
    pub(super) removed_up_to: u64,
}

impl StateSpool {
    pub(super) const fn new(is_load_due: bool) -> Self {
        Self { is_load_due, last: 0, removed_up_to: 0 }
    }
}

/// Returns the name of the queue in the spool for the readings of an exporter.
pub(super) fn state_queue(exporter: &str) -> String {
    format!("{}{exporter}", Outbox::STATE_QUEUES)
}
