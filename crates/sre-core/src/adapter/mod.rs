//! What every framework's adapter shares: the trait, the table of open runs, the verdict on a task, hand-made calls.
mod native;
mod open_runs;
mod recorder;
mod verdict;

pub use native::NativeAdapter;
pub use open_runs::{OpenRun, OpenRuns, RunLimits};
pub use recorder::{AdapterSnapshot, EventSink, LlmUsage, Recorder, Run};
pub use verdict::Verdict;

use serde::{Deserialize, Serialize};

use crate::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};

/// Reads a framework's native events and yields [`AgentEvent`]s.
///
/// State per open run is bounded, and a run that never ends is closed as incomplete by a time-out. Time is the input's
/// own: a recording is read as it would have been live.
pub trait Adapter: Send {
    /// Reads one native record, a line of JSON or the body of a request, and hands on the events it completes.
    ///
    /// A record that cannot be read is an error and changes nothing; the next one may be given.
    fn ingest(&mut self, record: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError>;

    /// Closes the runs that have been open for too long at `now`, as incomplete. [`Adapter::ingest`] does this by the
    /// input's time; a live service adds its own clock's.
    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent));

    /// The input has ended: closes every open run as incomplete.
    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent));

    /// Writes what is open, so that it outlives a restart.
    fn save(&self, state: &mut StateWriter);

    /// Takes up what was saved; nothing was read yet.
    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>;

    /// What is open, and what could not be used.
    fn stats(&self) -> AdapterStats;
}

/// A record that is not what its format says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// No JSON, or not of the expected shape; the message has line and column within the record.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Anything else that is wrong with the record.
    #[error("{0}")]
    Malformed(String),
}

impl From<crate::InvalidEvent> for AdapterError {
    fn from(error: crate::InvalidEvent) -> Self {
        match error {
            crate::InvalidEvent::Json(error) => Self::Json(error),
        }
    }
}

/// What an adapter holds, and what it could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterStats {
    /// The latest time that the input has told.
    pub latest: Timestamp,
    /// Runs that have begun and not ended.
    pub open_runs: usize,
    /// Runs closed early because too many were open.
    pub evicted_runs: u64,
    /// Native events of a kind that the adapter does not know.
    pub unknown: u64,
    /// Native events that belong to no open run, or to a run that holds too much already.
    pub unmatched: u64,
    /// Parts of records that cannot be, and were passed over: a span without an id, or one that ends before it starts.
    pub rejected: u64,
    /// Parts of records that had come before: a span that was sent again.
    pub repeated: u64,
}
