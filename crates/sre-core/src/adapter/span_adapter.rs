use super::{Adapter, AdapterError, AdapterStats, IngestLimits, IngestReport, SpanRuns};
use crate::{AgentEvent, StateError, StateReader, StateWriter, Timestamp};

/// An adapter of which all state is in [`SpanRuns`]. It implements [`Adapter`].
pub trait SpanAdapter: Send {
    /// Reads one native record and emits the events that it completes. Before it changes any state, it calls
    /// [`SpanRuns::advance`] with the time of the record.
    fn read(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError>;

    /// Returns the open runs.
    fn runs(&self) -> &SpanRuns;

    /// Returns the open runs, to change them.
    fn runs_mut(&mut self) -> &mut SpanRuns;
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
        self.runs_mut().expire(now, emit);
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.runs_mut().finish(emit);
    }

    fn save(&self, state: &mut StateWriter) {
        self.runs().save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.runs_mut().restore(state)
    }

    fn stats(&self) -> AdapterStats {
        self.runs().stats()
    }
}
