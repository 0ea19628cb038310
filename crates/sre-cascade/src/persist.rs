use std::borrow::Cow;

use sre_core::event::StringLimiter;
use sre_core::private::{MAX_SIGNAL_BYTES, lock};
use sre_core::{Persist, StateError, StateReader, StateWriter, TargetKind};

use crate::breaker::SavedBreaker;
use crate::failure_tracker::SavedTarget;
use crate::{CascadeDetector, Mitigation};

type SavedName = (TargetKind, String);

/// The call graph with the recent spans that reveal it, the breakers of all targets that have failed or have a window with calls, and
/// the callers whose circuits a cascade has opened. Callers that it limits are not kept: they are limited again when the cascade is
/// found again.
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
        let opened = match self.config.mitigation {
            Mitigation::Open => self.reported().mitigated.ids(),
            Mitigation::None | Mitigation::Limit(_) => Vec::new(),
        };
        let graph = self.read_graph();
        let names: Vec<(TargetKind, &str)> =
            graph.breakers().iter().map(|breaker| (breaker.target().kind, &*breaker.target().name)).collect();
        let mut calls: Vec<(u32, u32)> = graph.calls().collect();
        calls.sort_unstable();
        state.section("graph", |state| state.put(&(names, calls)));
        state.section("failed", |state| state.put(&failed));
        state.section("reported", |state| state.put(&reported));
        state.section("exhausted", |state| state.put(&*lock(&self.exhausted)));
        state.section("opened", |state| state.put(&opened));
        // The successes before a first failure, which a sliding window counts.
        let ids: Vec<u32> = failed.iter().map(|(id, ..)| *id).collect();
        let windows = (0..).zip(graph.breakers()).filter(|(id, _)| ids.binary_search(id).is_err());
        let windows =
            windows.filter(|(_, breaker)| breaker.window().is_some()).map(|(id, breaker)| (id, breaker.save()));
        let windows: Vec<(u32, SavedBreaker)> = windows.filter(|(_, breaker)| !breaker.is_idle()).collect();
        state.section("windows", |state| state.put(&windows));
        state.section("changed", |state| state.put(&self.tracker.has_changed()));
        state.section("spans", |state| state.put(&lock(&self.spans).save()));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let mut ids = Vec::new();
        for section in state.sections() {
            match section? {
                ("graph", mut state) => ids = self.restore_graph(&mut state)?,
                ("failed", mut state) => self.restore_failed(&mut state, &ids)?,
                ("reported", mut state) => self.restore_reported(&mut state)?,
                ("changed", mut state) => self.tracker.set_changed(state.take()?),
                ("exhausted", mut state) => *lock(&self.exhausted) = state.take()?,
                ("windows", mut state) => {
                    for (saved, breaker) in state.take::<Vec<(u32, SavedBreaker)>>()? {
                        if let Some(id) = present_id(&ids, saved) {
                            self.read_graph().breaker(id).restore(breaker);
                        }
                    }
                }
                ("spans", mut state) => lock(&self.spans).restore(state.take()?, |saved| present_id(&ids, saved)),
                ("opened", mut state) if self.config.mitigation == Mitigation::Open => {
                    let opened: Vec<u32> = state.take()?;
                    let present = opened.into_iter().filter_map(|saved| present_id(&ids, saved));
                    self.reported().mitigated = present.collect();
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl CascadeDetector {
    /// Returns the present id of each saved target; with a smaller limit, some have none.
    fn restore_graph(&self, state: &mut StateReader<'_>) -> Result<Vec<Option<u32>>, StateError> {
        let (mut names, calls): (Vec<SavedName>, Vec<(u32, u32)>) = state.take()?;
        // An earlier version has saved names of any length.
        StringLimiter::default().names(names.iter_mut().map(|(_, name)| name));
        let ids: Vec<Option<u32>> = names.iter().map(|(kind, name)| self.id(*kind, name)).collect();
        for (caller, callee) in calls {
            self.connect(present_id(&ids, caller), present_id(&ids, callee));
        }
        Ok(ids)
    }

    fn restore_failed(&self, state: &mut StateReader<'_>, ids: &[Option<u32>]) -> Result<(), StateError> {
        for (saved, mut target, breaker) in state.take::<Vec<(u32, SavedTarget, SavedBreaker)>>()? {
            target.limit_transition();
            if let Some(id) = present_id(ids, saved) {
                self.tracker.restore(id, target).map_err(no_signal)?;
                self.read_graph().breaker(id).restore(breaker);
            }
        }
        Ok(())
    }

    fn restore_reported(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let (origin, signal) = state.take::<(_, Option<String>)>()?;
        // Without the report of an earlier version that is too long, the cascade is reported again if it goes on.
        if signal.as_ref().is_some_and(|json| json.len() > MAX_SIGNAL_BYTES) {
            return Ok(());
        }
        let mut reported = self.reported();
        reported.origin = origin;
        reported.signal = signal.map(|json| serde_json::from_str(&json)).transpose().map_err(no_signal)?;
        Ok(())
    }
}

fn present_id(ids: &[Option<u32>], saved: u32) -> Option<u32> {
    ids.get(saved as usize).copied().flatten()
}

fn no_signal(error: serde_json::Error) -> StateError {
    StateError::new(format!("found no signal ({error})"))
}
