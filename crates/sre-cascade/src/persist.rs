use std::borrow::Cow;

use sre_core::{Persist, StateError, StateReader, StateWriter, TargetKind, lock};

use crate::CascadeDetector;
use crate::breaker::SavedBreaker;
use crate::failure_tracker::SavedTarget;

type SavedName = (TargetKind, String);

/// The call graph, and the breakers of all targets that have failed. Which mitigations are applied is not kept: they are
/// applied again when the cascade is found again.
impl Persist for CascadeDetector {
    fn name(&self) -> Cow<'_, str> {
        "cascade".into()
    }

    fn save(&self, state: &mut StateWriter) {
        let failed: Vec<(u32, SavedTarget, SavedBreaker)> = {
            let mut ids = self.tracker.ever_failed();
            ids.sort_unstable();
            let breakers = self.breakers(&ids);
            ids.iter().zip(&breakers).map(|(id, breaker)| (*id, self.tracker.save(*id), breaker.save())).collect()
        };
        let reported = {
            let reported = self.reported();
            let signal = reported.signal.as_ref().and_then(|signal| serde_json::to_string(signal).ok());
            (reported.origin.clone(), signal)
        };
        let graph = self.read_graph();
        let names: Vec<(TargetKind, &str)> =
            graph.breakers().iter().map(|breaker| (breaker.target().kind, &*breaker.target().name)).collect();
        let mut calls: Vec<(u32, u32)> = graph.calls().collect();
        calls.sort_unstable();
        state.put(&(names, calls));
        state.put(&failed);
        state.put(&reported);
        state.put(&*lock(&self.exhausted));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let (names, calls): (Vec<SavedName>, Vec<(u32, u32)>) = state.take()?;
        // Ids of now by ids of then; with a smaller limit, some targets have none.
        let ids: Vec<Option<u32>> = names.iter().map(|(kind, name)| self.id(*kind, name)).collect();
        let id = |then: u32| ids.get(then as usize).copied().flatten();
        for (caller, callee) in calls {
            self.connect(id(caller), id(callee));
        }
        let no_signal = |error: serde_json::Error| StateError::new(format!("found no signal ({error})"));
        let failed: Vec<(u32, SavedTarget, SavedBreaker)> = state.take()?;
        for (then, target, breaker) in failed {
            if let Some(id) = id(then) {
                self.tracker.restore(id, target).map_err(no_signal)?;
                self.read_graph().breaker(id).restore(breaker);
            }
        }
        let (origin, signal) = state.take::<(_, Option<String>)>()?;
        let mut reported = self.reported();
        reported.origin = origin;
        reported.signal = signal.map(|json| serde_json::from_str(&json)).transpose().map_err(no_signal)?;
        if !state.is_empty() {
            *lock(&self.exhausted) = state.take()?;
        }
        Ok(())
    }
}
