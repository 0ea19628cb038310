//! What every adapter of a framework shares: the trait, what is open, the verdict on a task, and recording by hand.
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
//!         if self.0.advance(time) {
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

mod body;
mod ingest;
mod native;
mod open_runs;
mod recorder;
mod run;
mod run_tracker;
mod verdict;

use serde::{Deserialize, Serialize};

pub use self::body::{Body, BodyKind, Decoder, UnknownBodyKind};
pub use self::ingest::{IngestLimits, IngestReport, LineError};
pub use self::native::NativeAdapter;
pub use self::open_runs::RunLimits;
pub use self::recorder::{AdapterSnapshot, EventSink, LlmUsage, Recorder, Run};
pub use self::run::OpenRun;
pub use self::run_tracker::{RecordCounts, RunTracker};
pub use self::verdict::Verdict;
use crate::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};

/// Reads the native events of a framework and yields [`AgentEvent`]s.
///
/// State per open run is bounded, and a run that never ends is closed as incomplete by a time-out. Time is the input's
/// own: a recording is read as it would have been live. The [module](self) shows an adapter.
pub trait Adapter: Send {
    /// Reads one native record, a line of JSON or the body of a request, and emits the events that it completes.
    ///
    /// A record that cannot be read is an error and changes nothing; the next one may be given.
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError>;

    /// Reads one native record of a recording, whatever its time.
    fn ingest(&mut self, record: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        self.ingest_record(record, &IngestLimits::default(), emit).map(drop)
    }

    /// Reads a body, as a service receives it. The report names the lines that were rejected, and the others count.
    ///
    /// An error where the adapter does not read bodies of that kind, or cannot read this one at all; nothing has changed
    /// then.
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

    /// Reads a record a line; blank lines are skipped.
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

    /// Returns how to read a body ahead of [`Adapter::ingest_body`], on any thread; `None` where there is little to gain.
    fn decoder(&self) -> Option<Decoder> {
        None
    }

    /// Closes the runs that have been open for too long at `now`, as incomplete. Reading does this by the input's time; a
    /// live service adds its own clock's.
    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent));

    /// Closes every open run as incomplete: the input has ended.
    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent));

    /// Writes what is open, so that it survives a restart.
    fn save(&self, state: &mut StateWriter);

    /// Reads back what was saved, before anything else is read.
    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>;

    /// Returns what is open, and what could not be used.
    fn stats(&self) -> AdapterStats;
}

/// A record that is not what its format says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// No JSON, or not of the expected shape; the message has line and column within the record.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A time that is further ahead than clocks differ.
    #[error("found the time {found}, expected none after {not_after}: check the clock of the sender")]
    TooLate {
        /// The time of the record.
        found: Timestamp,
        /// The latest time that is accepted.
        not_after: Timestamp,
    },
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
    /// The latest time of the input.
    pub latest: Timestamp,
    /// Runs that have started and not ended.
    pub open_runs: usize,
    /// Runs closed early because too many were open.
    pub evicted_runs: u64,
    /// Native events of a kind that the adapter does not know.
    pub unknown: u64,
    /// Native events that belong to no open run, or to a run that holds too much already.
    pub unmatched: u64,
    /// Invalid parts of records: a span without an id, or one that ends before it starts.
    pub rejected: u64,
    /// Parts of records that came a second time: a span that was sent again.
    pub repeated: u64,
}
