use super::{Adapter, AdapterError, AdapterStats, IngestLimits, IngestReport, SpanRuns};
use crate::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};

/// An adapter of which all state is in [`SpanRuns`]. It implements [`Adapter`].
///
/// [`span_adapter!`](crate::span_adapter) defines the type; what is left is the wire format, and this method:
///
/// ```
/// use sre_core::adapter::{AdapterError, IngestLimits, SpanAdapter};
/// use sre_core::{Adapter, AgentEvent, Timestamp};
///
/// #[derive(serde::Deserialize)]
/// struct Line<'a> {
///     time: Timestamp,
///     event: &'a str,
///     job: &'a str,
/// }
///
/// sre_core::span_adapter! {
///     /// Reads the log of a job runner.
///     pub struct JobAdapter {}
///     step_kind: "job",
/// }
///
/// impl SpanAdapter for JobAdapter {
///     fn read(
///         &mut self,
///         record: &[u8],
///         limits: &IngestLimits,
///         emit: &mut dyn FnMut(AgentEvent),
///     ) -> Result<(), AdapterError> {
///         let line: Line<'_> = serde_json::from_slice(record)?;
///         self.runs.advance(line.time, limits, emit)?;
///         match line.event {
///             "start" => self.runs.start_run(line.job, Some("jobs"), line.time, emit),
///             "end" => self.runs.end_run(line.job, line.time, None, emit),
///             _ => self.runs.tracker().counts.unknown += 1,
///         }
///         Ok(())
///     }
/// }
///
/// let (mut adapter, mut events) = (JobAdapter::default(), Vec::new());
/// for line in [r#"{"time":10,"event":"start","job":"1"}"#, r#"{"time":13,"event":"end","job":"1"}"#] {
///     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
/// }
/// assert_eq!(events[1].event.duration_ms(), Some(3_000.0));
/// ```
pub trait SpanAdapter: AsRef<SpanRuns> + AsMut<SpanRuns> + Send {
    /// Reads one native record and emits the events that it completes. Before it changes any state, it calls
    /// [`SpanRuns::advance`] with the time of the record.
    fn read(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError>;
}

impl<A: SpanAdapter> Adapter for A {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        self.read(record, limits, emit).map(|()| IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.as_mut().expire(now, emit);
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.as_mut().finish(emit);
    }

    fn save(&self, state: &mut StateWriter) {
        self.as_ref().save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.as_mut().restore(state)
    }

    fn stats(&self) -> AdapterStats {
        self.as_ref().stats()
    }
}

/// Defines the type of an adapter over [`SpanRuns`](crate::adapter::SpanRuns), with the methods that all of them have.
///
/// The type has the fields `runs` and `recorder`, and those that are listed, which start as their default. `step_kind` is the
/// kind of the framework's steps. [`SpanAdapter`](crate::adapter::SpanAdapter) has an example.
#[macro_export]
macro_rules! span_adapter {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident { $($field:ident: $type:ty),* $(,)? }
        step_kind: $step_kind:literal $(,)?
    ) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub struct $name {
            runs: $crate::adapter::SpanRuns,
            #[allow(dead_code, reason = "an adapter may have no methods for manual recording")]
            recorder: $crate::adapter::Recorder,
            $($field: $type,)*
        }

        impl $name {
            /// Creates an adapter with the given limits. Events recorded manually go to `recorder`.
            pub fn new(limits: $crate::adapter::RunLimits, recorder: $crate::adapter::Recorder) -> Self {
                let runs = $crate::adapter::SpanRuns::new(limits, $step_kind);
                Self { runs, recorder, $($field: <$type>::default(),)* }
            }

            /// Returns the totals of the manually recorded runs.
            pub fn snapshot(&self) -> $crate::adapter::AdapterSnapshot {
                self.recorder.snapshot()
            }

            /// Resets the totals.
            pub fn clear(&self) {
                self.recorder.clear();
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(Default::default(), Default::default())
            }
        }

        impl AsRef<$crate::adapter::SpanRuns> for $name {
            fn as_ref(&self) -> &$crate::adapter::SpanRuns {
                &self.runs
            }
        }

        impl AsMut<$crate::adapter::SpanRuns> for $name {
            fn as_mut(&mut self) -> &mut $crate::adapter::SpanRuns {
                &mut self.runs
            }
        }
    };
}
