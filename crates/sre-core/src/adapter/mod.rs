//! Shared code of framework adapters: the trait, open runs, the outcome of a task, and manual recording.
//!
//! An adapter is a type with a [`RunTracker`] that reads one record of its framework at a time:
//!
//! ```
//! use sre_core::adapter::{
//!     Adapter, AdapterError, AdapterStats, IngestLimits, IngestReport, OpenRun, RunLimits, RunTracker,
//! };
//! use sre_core::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};
//!
//! /// Reads lines such as `1790000000 start job-1`.
//! struct Jobs(RunTracker<()>);
//!
//! impl Adapter for Jobs {
//!     fn ingest_record(
//!         &mut self,
//!         record: &[u8],
//!         limits: &IngestLimits,
//!         emit: &mut dyn FnMut(AgentEvent),
//!     ) -> Result<IngestReport, AdapterError> {
//!         let line = String::from_utf8_lossy(record);
//!         let [time, event, job] = line.split(' ').collect::<Vec<_>>()[..] else {
//!             return Err(AdapterError::Malformed(format!("found `{line}`, expected a time, an event and a job")));
//!         };
//!         let time = time.parse::<f64>().ok().and_then(|time| Timestamp::from_unix_seconds(time).ok());
//!         let time = time.ok_or_else(|| AdapterError::Malformed("expected a time in Unix seconds".to_owned()))?;
//!         limits.check([time])?;
//!         if self.0.advance(time, limits) {
//!             self.expire(time, emit);
//!         }
//!         match event {
//!             "start" => {
//!                 let run = OpenRun::native("jobs", job, time, ());
//!                 emit(run.started(None));
//!                 if let Some((at, displaced)) = self.0.open(job, run) {
//!                     emit(displaced.incomplete(at));
//!                 }
//!             }
//!             "end" => {
//!                 if let Some(run) = self.0.end(job) {
//!                     emit(run.finished(time, None));
//!                 }
//!             }
//!             _ => self.0.counts.unknown += 1,
//!         }
//!         Ok(IngestReport::accepted())
//!     }
//!
//!     fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
//!         self.0.expire(now).into_iter().for_each(|(deadline, run)| emit(run.incomplete(deadline)));
//!     }
//!
//!     fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
//!         self.0.drain().into_iter().for_each(|(end, run)| emit(run.incomplete(end)));
//!     }
//!
//!     fn save(&self, state: &mut StateWriter) {
//!         self.0.save(state);
//!     }
//!
//!     fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
//!         self.0.restore(state)
//!     }
//!
//!     fn stats(&self) -> AdapterStats {
//!         self.0.stats()
//!     }
//! }
//!
//! let (mut adapter, mut events) = (Jobs(RunTracker::new(RunLimits::default())), Vec::new());
//! for line in ["1790000000 start job-1", "1790000003 end job-1"] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!(events[1].event.duration_ms(), Some(3000.0));
//! ```

mod agent_usage;
mod body;
mod current_run;
mod ingest;
mod native;
mod open_runs;
mod recorder;
mod run;
mod run_outcome;
mod run_tracker;
mod span_adapter;
mod spans;
mod token_costs;

use serde::{Deserialize, Serialize};

pub use self::body::{Body, BodyKind, Decoder};
pub use self::current_run::CurrentRun;
pub use self::ingest::{IngestLimits, IngestReport, LineError};
pub use self::native::NativeAdapter;
pub use self::open_runs::RunLimits;
pub use self::recorder::{AdapterSnapshot, EventSink, LlmUsage, Recorder, Run};
pub use self::run::OpenRun;
pub use self::run_outcome::RunOutcome;
pub use self::run_tracker::{RecordCounts, RunTracker};
pub use self::span_adapter::SpanAdapter;
pub use self::spans::{OpenSpan, OpenSpans, SpanEnd, SpanKind, SpanRuns};
pub use self::token_costs::TokenCosts;
use crate::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};

/// Reads the native events of a framework and emits [`AgentEvent`]s.
///
/// The state of open runs is bounded, and a run that never ends is closed as incomplete after a time-out. In a recording,
/// time passes by its records; in a live service, by the service's clock ([`IngestLimits::arrived`]). The
/// [module](self) shows an adapter.
pub trait Adapter: Send {
    /// Reads one native record, a line of JSON or the body of a request, and emits the events that it completes.
    ///
    /// An invalid record is an error and changes nothing. The next record can still be read.
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError>;

    /// Reads one native record of a recording, with any time.
    fn ingest(&mut self, record: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        self.ingest_record(record, &IngestLimits::default(), emit).map(drop)
    }

    /// Reads a request body, as a service receives it. The report lists the rejected lines; all other lines are
    /// ingested.
    ///
    /// Returns an error, and changes nothing, if the adapter does not support bodies of that kind or cannot read this
    /// one.
    fn ingest_body(
        &mut self,
        body: Body,
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        match body.kind {
            BodyKind::Lines => Ok(self.ingest_lines(&body.bytes, limits, emit)),
            kind => Err(AdapterError::Malformed(format!("found a body of {kind}, expected one of lines"))),
        }
    }

    /// Reads one record per line; blank lines are skipped.
    fn ingest_lines(&mut self, lines: &[u8], limits: &IngestLimits, emit: &mut dyn FnMut(AgentEvent)) -> IngestReport {
        let mut report = IngestReport::default();
        for (number, line) in (1..).zip(lines.split(|byte| *byte == b'\n')) {
            let record = line.trim_ascii();
            if !record.is_empty() {
                report.add_line(number, self.ingest_record(record, limits, emit), limits);
            }
        }
        report
    }

    /// Returns a function that decodes a body ahead of [`Adapter::ingest_body`], on any thread; `None` if decoding is
    /// cheap.
    fn decoder(&self) -> Option<Decoder> {
        None
    }

    /// Closes the runs whose time-out has passed at `now`, as incomplete. Ingesting a recording does this by the times of its
    /// records; a live service calls it with the time of its clock.
    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent));

    /// Closes every open run as incomplete, at the end of the input.
    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent));

    /// Saves the open runs, so that they survive a restart.
    fn save(&self, state: &mut StateWriter);

    /// Restores saved state. Called before the first record is read.
    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>;

    /// Returns the number of open runs and the counts of unused records.
    fn stats(&self) -> AdapterStats;
}

/// A record that does not match its format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Invalid JSON, or JSON of an unexpected shape; the message names line and column within the record.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A time too far in the future.
    #[error("found time {found}, expected at most {not_after}: check the clock of the sender")]
    TooLate {
        /// The time of the record.
        found: Timestamp,
        /// The latest time that is accepted.
        not_after: Timestamp,
    },
    /// A body whose records take more memory than [`Body::max_decoded_size`].
    #[error("found a body of {bytes} bytes whose records take more than {max} bytes of memory: send smaller requests")]
    TooLarge {
        /// Size of the body, in bytes.
        bytes: usize,
        /// The maximum memory, in bytes.
        max: usize,
    },
    /// Any other error in the record.
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

impl From<crate::event::InvalidField> for AdapterError {
    fn from(error: crate::event::InvalidField) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Counts of the runs and records of an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdapterStats {
    /// The latest time of the input.
    pub latest: Timestamp,
    /// Open runs.
    pub open_runs: usize,
    /// Runs closed early because too many were open.
    pub evicted_runs: u64,
    /// Native events of an unknown kind.
    pub unknown: u64,
    /// Native events that belong to no open run, or to a run that has reached its size limit, and calls without an end in a run that
    /// succeeded.
    pub unmatched: u64,
    /// Invalid parts of records: a span without an id, or one that ends before it starts.
    pub rejected: u64,
    /// Parts of records that were received before, such as a span that was sent again.
    pub repeated: u64,
    /// Strings that were too long, since the start of the process.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shortened: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
