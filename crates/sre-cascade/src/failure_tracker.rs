use std::sync::Mutex;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use sre_core::private::{MAX_SIGNAL_BYTES, lock};
use sre_core::{BreakerChange, BreakerState, Signal, SignalOutlet, Timestamp};

use crate::propagation::FailingSince;
use crate::settings::BreakerListener;

/// Tracks which targets of a detector are failing and whose circuits are open. It listens to their breakers.
#[derive(Default)]
pub(crate) struct FailureTracker {
    window: Duration,
    /// Number of failures within the window that make a target failing.
    min_failures: u32,
    state: Mutex<State>,
    /// Takes the state transitions.
    pub(crate) outlet: SignalOutlet,
}

#[derive(Default)]
struct State {
    episodes: FxHashMap<u32, FailureEpisode>,
    /// When the recovery timeout of each open circuit elapses.
    open_until: FxHashMap<u32, Timestamp>,
    /// A target began to fail, or a breaker changed state, since [`FailureTracker::take_changed`].
    has_changed: bool,
    /// Targets that have failed since the start.
    ever_failed: FxHashSet<u32>,
    /// The last state transition of each target that has made one.
    transitions: FxHashMap<u32, Signal>,
}

/// What outlives a restart.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedTarget {
    episode: Option<FailureEpisode>,
    open_until: Option<Timestamp>,
    /// As JSON.
    transition: Option<String>,
}

impl SavedTarget {
    /// Drops a transition that an earlier version has saved with a name of any length. The next one replaces it.
    pub(crate) fn limit_transition(&mut self) {
        self.transition.take_if(|json| json.len() > MAX_SIGNAL_BYTES);
    }
}

/// Failures with no gap longer than the window.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct FailureEpisode {
    since: Timestamp,
    last: Timestamp,
    failures: u32,
}

/// The failing targets at one moment.
pub(crate) struct FailingTargets {
    /// Targets with enough failures, or with an open circuit.
    pub(crate) failing: FailingSince,
    /// Targets with an open circuit, ordered by their first failure.
    pub(crate) open: Vec<u32>,
}

impl FailureTracker {
    pub(crate) fn new(window: Duration, min_failures: u32) -> Self {
        Self { window, min_failures, ..Self::default() }
    }

    /// Returns true if a target began to fail or a breaker changed state since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.state().has_changed)
    }

    /// Returns what [`take_changed`](Self::take_changed) would.
    pub(crate) fn has_changed(&self) -> bool {
        self.state().has_changed
    }

    pub(crate) fn set_changed(&self, has_changed: bool) {
        self.state().has_changed = has_changed;
    }

    /// Queues the last state transition of each target that has made one.
    pub(crate) fn reassert(&self) {
        self.outlet.queue_all(self.state().transitions.values().cloned());
    }

    /// Returns the state of a target.
    pub(crate) fn save(&self, id: u32) -> SavedTarget {
        let state = self.state();
        SavedTarget {
            episode: state.episodes.get(&id).copied(),
            open_until: state.open_until.get(&id).copied(),
            transition: state.transitions.get(&id).and_then(|signal| serde_json::to_string(signal).ok()),
        }
    }

    /// Restores what was known of a target.
    pub(crate) fn restore(&self, id: u32, saved: SavedTarget) -> Result<(), serde_json::Error> {
        let transition = saved.transition.map(|json| serde_json::from_str(&json)).transpose()?;
        let mut state = self.state();
        state.ever_failed.insert(id);
        state.episodes.extend(saved.episode.map(|episode| (id, episode)));
        state.open_until.extend(saved.open_until.map(|until| (id, until)));
        state.transitions.extend(transition.map(|transition| (id, transition)));
        Ok(())
    }

    /// Evicts targets that have recovered before `now`.
    pub(crate) fn evict_recovered(&self, now: Timestamp) {
        let mut state = self.state();
        let State { episodes, open_until, .. } = &mut *state;
        episodes.retain(|id, episode| self.goes_on(episode, now) || open_until.contains_key(id));
    }

    /// Returns what is failing at `now`. Evicts nothing, since reads must not change the state.
    pub(crate) fn failing_at(&self, now: Timestamp) -> FailingTargets {
        let state = self.state();
        let State { episodes, open_until, .. } = &*state;
        let mut open: Vec<(Timestamp, u32)> = open_until
            .iter()
            .filter(|(_, until)| **until > now)
            .map(|(id, _)| (episodes.get(id).map_or(now, |episode| episode.since), *id))
            .collect();
        open.sort_unstable();
        FailingTargets {
            failing: episodes
                .iter()
                .filter(|(id, episode)| {
                    let is_failing = episode.failures >= self.min_failures && self.goes_on(episode, now);
                    is_failing || open_until.contains_key(id)
                })
                .map(|(id, episode)| (*id, episode.since))
                .collect(),
            open: open.into_iter().map(|(_, id)| id).collect(),
        }
    }

    /// Returns the targets whose breakers opened and have made no transition since, including those due to become half-open.
    pub(crate) fn opened(&self) -> Vec<u32> {
        self.state().open_until.keys().copied().collect()
    }

    /// Returns the targets that have failed since the start.
    pub(crate) fn ever_failed(&self) -> Vec<u32> {
        self.state().ever_failed.iter().copied().collect()
    }

    /// Returns whether another failure at `now` would belong to the episode.
    fn goes_on(&self, episode: &FailureEpisode, now: Timestamp) -> bool {
        now.since(episode.last) <= self.window
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn record_failure(&mut self, id: u32, at: Timestamp, tracker: &FailureTracker) {
        self.ever_failed.insert(id);
        let new = FailureEpisode { since: at, last: at, failures: 0 };
        let episode = self.episodes.entry(id).or_insert(new);
        if at.since(episode.last) > tracker.window {
            *episode = new;
        }
        episode.last = episode.last.max(at);
        episode.failures = episode.failures.saturating_add(1);
        self.has_changed |= episode.failures == tracker.min_failures;
    }
}

impl BreakerListener for FailureTracker {
    fn on_failure(&self, id: u32, at: Timestamp) {
        self.state().record_failure(id, at, self);
    }

    fn on_change(&self, id: u32, at: Timestamp, change: BreakerChange) {
        let mut state = self.state();
        state.has_changed = true;
        match change.to {
            BreakerState::Open => {
                state.record_failure(id, at, self);
                let timeout = Duration::try_from_secs_f64(change.retry_after_s.unwrap_or(0.0)).unwrap_or(Duration::MAX);
                state.open_until.insert(id, at.saturating_add(timeout));
            }
            BreakerState::ForcedOpen => {
                state.record_failure(id, at, self);
                state.open_until.insert(id, Timestamp::from_nanos(i64::MAX));
            }
            BreakerState::Closed | BreakerState::Disabled => {
                state.open_until.remove(&id);
                state.episodes.remove(&id);
            }
            BreakerState::HalfOpen => {
                state.open_until.remove(&id);
            }
        }
        let signal = change.into_signal(at);
        state.transitions.insert(id, signal.clone());
        self.outlet.queue(signal);
        drop(state);
        self.outlet.flush();
    }
}
