use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sre_core::private::lock;
use sre_core::{KeptTrace, Persist, StateError, StateReader, StateWriter, Timestamp, TraceId};

use super::TailSampler;
use super::encoded_spans::EncodedSpans;
use super::open_traces::OpenTrace;

/// The names of the saved sections. What they hold never changes: something new is a section of its own.
const OPEN: &str = "open";
const SECOND: &str = "second";

/// A trace that is held.
#[derive(Serialize, Deserialize)]
struct SavedTrace<'a> {
    id: [u8; 16],
    is_open: bool,
    since: u64,
    spans: Cow<'a, [u8]>,
    kept: Vec<SavedKept<'a>>,
}

/// Objective, agent, the time of the last bad or slow event, and the numbers of these.
type SavedKept<'a> = (Cow<'a, str>, Cow<'a, str>, Timestamp, u64, u64);

impl Persist for TailSampler {
    fn name(&self) -> Cow<'_, str> {
        "traces".into()
    }

    fn save(&self, state: &mut StateWriter) {
        let own = lock(&self.state);
        state.section(OPEN, |state| own.open.iter().for_each(|(id, trace)| state.put(&SavedTrace::of(id, trace))));
        state.section(SECOND, |state| state.put(&(own.now, &own.admitted.by_objective)));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let mut own = lock(&self.state);
        for section in state.sections() {
            match section? {
                (OPEN, mut state) => {
                    while !state.is_empty() {
                        let saved: SavedTrace<'static> = state.take()?;
                        let (is_open, since) = (saved.is_open, saved.since);
                        let damaged = || StateError::new("found a damaged trace".to_owned());
                        let (id, spans, kept) = saved.restore().ok_or_else(damaged)?;
                        own.open.restore(id, is_open, since, spans, kept);
                    }
                }
                (SECOND, mut state) => {
                    (own.now, own.admitted.by_objective) = state.take()?;
                    let counts = own.admitted.by_objective.values();
                    own.admitted.altogether = counts.fold(0, |sum, count| sum.saturating_add(*count));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> SavedTrace<'a> {
    fn of(id: TraceId, trace: &'a OpenTrace) -> Self {
        let kept = |kept: &'a KeptTrace| {
            let KeptTrace { slo, agent, at, bad, slow, .. } = kept;
            (slo.into(), agent.into(), *at, *bad, *slow)
        };
        Self {
            id: id.to_bytes(),
            is_open: trace.is_open(),
            since: trace.since(),
            spans: trace.spans.bytes().into(),
            kept: trace.kept.iter().map(kept).collect(),
        }
    }

    fn restore(self) -> Option<(TraceId, EncodedSpans, Vec<KeptTrace>)> {
        let id = TraceId::from_bytes(self.id)?;
        let kept = |(slo, agent, at, bad, slow): SavedKept<'_>| {
            let mut kept = KeptTrace::new(id, slo, agent, at);
            (kept.bad, kept.slow) = (bad, slow);
            kept
        };
        let spans = EncodedSpans::from_bytes(id, self.spans.into_owned())?;
        Some((id, spans, self.kept.into_iter().map(kept).collect()))
    }
}
