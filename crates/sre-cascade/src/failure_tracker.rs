use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use sre_core::{BreakerChange, BreakerState, Signal, SignalHandler, SignalKind, Timestamp, lock};

use crate::breaker::BreakerListener;
use crate::propagation::FailingSince;

/// What the breakers of a detector tell it: who fails and whose circuit is open.
#[derive(Default)]
pub(crate) struct FailureTracker {
    window: Duration,
    /// So many failures within the window make somebody fail.
    min_failures: u32,
    state: Mutex<State>,
    handler: OnceLock<Arc<dyn SignalHandler>>,
}

#[derive(Default)]
struct State {
    failing: FxHashMap<u32, FailureEpisode>,
    /// Until when each open circuit stays so.
    open: FxHashMap<u32, Timestamp>,
    /// Something began to fail, opened or closed since the last look.
    has_changed: bool,
    /// Whatever has failed, since the start.
    ever_failed: FxHashSet<u32>,
    /// Changes that no handler has taken.
    pending: Vec<Signal>,
    lost: u64,
}

/// Failures that follow each other closely.
#[derive(Clone, Copy)]
struct FailureEpisode {
    since: Timestamp,
    last: Timestamp,
    failures: u32,
}

/// What was found at a moment.
pub(crate) struct FailingTargets {
    /// What has failed often enough within the window, or is open.
    pub(crate) failing: FailingSince,
    /// What is open.
    pub(crate) open: Vec<u32>,
}

const MAX_PENDING: usize = 4_096;

impl FailureTracker {
    pub(crate) fn new(window: Duration, min_failures: u32) -> Self {
        Self { window, min_failures, ..Self::default() }
    }

    /// From now on, changes go to `handler` at once; false where there is one already.
    pub(crate) fn set_handler(&self, handler: Arc<dyn SignalHandler>) -> bool {
        self.handler.set(handler).is_ok()
    }

    /// Whether anything began to fail, opened or closed since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.state().has_changed)
    }

    /// The changes that no handler has taken, in their order.
    pub(crate) fn take_pending(&self) -> Vec<Signal> {
        std::mem::take(&mut self.state().pending)
    }

    /// Changes that were lost because nobody took them.
    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Who fails at `now`; forgets who has recovered.
    pub(crate) fn look(&self, now: Timestamp) -> FailingTargets {
        let mut state = self.state();
        let State { failing, open: all_open, .. } = &mut *state;
        failing.retain(|id, episode| now.since(episode.last) <= self.window || all_open.contains_key(id));
        let mut open: Vec<(Timestamp, u32)> = all_open
            .iter()
            .filter(|(_, until)| **until > now)
            .map(|(id, _)| (failing.get(id).map_or(now, |episode| episode.since), *id))
            .collect();
        open.sort_unstable();
        FailingTargets {
            failing: failing
                .iter()
                .filter(|(id, episode)| episode.failures >= self.min_failures || all_open.contains_key(id))
                .map(|(id, episode)| (*id, episode.since))
                .collect(),
            open: open.into_iter().map(|(_, id)| id).collect(),
        }
    }

    /// Every circuit that is open or was until its time was over.
    pub(crate) fn opened(&self) -> Vec<u32> {
        self.state().open.keys().copied().collect()
    }

    /// Whatever has failed since the start.
    pub(crate) fn ever_failed(&self) -> Vec<u32> {
        self.state().ever_failed.iter().copied().collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn fails(&mut self, id: u32, at: Timestamp, tracker: &FailureTracker) {
        self.ever_failed.insert(id);
        let begins = FailureEpisode { since: at, last: at, failures: 0 };
        let episode = self.failing.entry(id).or_insert(begins);
        if at.since(episode.last) > tracker.window {
            *episode = begins;
        }
        episode.last = episode.last.max(at);
        episode.failures = episode.failures.saturating_add(1);
        self.has_changed |= episode.failures == tracker.min_failures;
    }
}

impl BreakerListener for FailureTracker {
    fn failed(&self, id: u32, at: Timestamp) {
        self.state().fails(id, at, self);
    }

    fn changed(&self, id: u32, at: Timestamp, change: BreakerChange) {
        let mut state = self.state();
        state.has_changed = true;
        match change.to {
            BreakerState::Open => {
                state.fails(id, at, self);
                let wait = Duration::try_from_secs_f64(change.retry_after_s.unwrap_or(0.0)).unwrap_or(Duration::MAX);
                state.open.insert(id, at.saturating_add(wait));
            }
            BreakerState::ForcedOpen => {
                state.fails(id, at, self);
                state.open.insert(id, Timestamp::from_nanos(i64::MAX));
            }
            BreakerState::Closed | BreakerState::Disabled => {
                state.open.remove(&id);
                state.failing.remove(&id);
            }
            BreakerState::HalfOpen => {
                state.open.remove(&id);
            }
        }
        let agent = change.target.agent_name().to_owned();
        let signal = Signal { time: at, agent, kind: SignalKind::BreakerChanged(change) };
        match self.handler.get() {
            Some(handler) => {
                drop(state);
                handler.handle(&signal);
            }
            None if state.pending.len() < MAX_PENDING => state.pending.push(signal),
            None => state.lost += 1,
        }
    }
}
