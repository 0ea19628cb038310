use std::sync::Arc;
use std::time::Duration;

use sre_core::AgentEvent;

use super::record::{Record, StateBatch};
use super::state_queue::Reading;

/// The next step of an outbox.
#[derive(Debug)]
pub(super) enum Step {
    /// Append these records to the spool; then call `Machine::spooled`, as after the next steps.
    Append(Vec<Record>),
    /// Remove the records up to this id from the spool.
    Remove(u64),
    /// Read the next batch from the spool.
    Load,
    /// Append copies of these readings to the spool.
    AppendStates(Vec<Reading>),
    /// Remove the copies of readings up to this id from the spool.
    RemoveStates(u64),
    /// Read the readings that an earlier run left in the spool.
    LoadStates,
    /// Collect metrics and snapshots; then call `Machine::collected`.
    Collect,
    /// Send these records; then call `Machine::settle`.
    Send(Outgoing),
    /// Wait for a push, a response, or the end of this time.
    Wait(Option<Duration>),
}

/// The records to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Events(Vec<Arc<AgentEvent>>),
    State(Arc<StateBatch>),
}

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    State,
}
