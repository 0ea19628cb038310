use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::RunLimits;
use crate::Timestamp;

/// The open runs of each agent, to find the one that holds most.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Holders {
    agents: FxHashMap<Arc<str>, Held>,
    by_count: BTreeSet<Rank>,
    by_bytes: BTreeSet<Rank>,
}

/// The time from which a run's time-out counts, and its key.
pub(super) type RunPlace = (Timestamp, Arc<str>);

/// How many parts of the limit an agent holds, at least one.
type Rank = (usize, Arc<str>);

/// What an agent holds.
#[derive(Debug, Default, PartialEq)]
struct Held {
    runs: BTreeSet<RunPlace>,
    bytes: usize,
}

/// Agents that hold the same number of parts of a limit, of this many, hold as much: so ranks seldom change.
const PARTS: usize = 64;

impl Held {
    /// Returns the parts of both limits that the agent holds, rounded down.
    fn parts(&self, limits: &RunLimits) -> [usize; 2] {
        let part = |amount: usize, limit: usize| amount / limit.div_ceil(PARTS).max(1);
        [part(self.runs.len(), limits.max_open_runs), part(self.bytes, limits.max_open_bytes)]
    }
}

impl Holders {
    pub(super) fn add(&mut self, agent: &str, place: RunPlace, bytes: usize, limits: &RunLimits) {
        self.change(agent, limits, |held| {
            held.runs.insert(place);
            held.bytes += bytes;
        });
    }

    pub(super) fn remove(&mut self, agent: &str, place: &RunPlace, bytes: usize, limits: &RunLimits) {
        self.change(agent, limits, |held| {
            held.runs.remove(place);
            held.bytes = held.bytes.saturating_sub(bytes);
        });
    }

    /// Changes the size of an agent's runs.
    pub(super) fn resize(&mut self, agent: &str, before: usize, after: usize, limits: &RunLimits) {
        self.change(agent, limits, |held| held.bytes = held.bytes.saturating_sub(before) + after);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the oldest run of the agent with the most runs; `None` if no agent holds a part of the limit.
    pub(super) fn oldest_of_most_runs(&self) -> Option<RunPlace> {
        self.oldest(&self.by_count)
    }

    /// Returns the oldest run of the agent with the largest runs; `None` if no agent holds a part of the limit.
    pub(super) fn oldest_of_most_bytes(&self) -> Option<RunPlace> {
        self.oldest(&self.by_bytes)
    }

    /// Returns the oldest run of the agents of the highest rank.
    fn oldest(&self, ranked: &BTreeSet<Rank>) -> Option<RunPlace> {
        let (most, _) = ranked.last()?;
        let of_most = ranked.iter().rev().take_while(|(parts, _)| parts == most);
        of_most.filter_map(|(_, agent)| self.agents.get(agent)?.runs.first()).min().cloned()
    }

    fn change(&mut self, agent: &str, limits: &RunLimits, change: impl FnOnce(&mut Held)) {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.into(), Held::default());
        }
        let Some(held) = self.agents.get_mut(agent) else { return };
        let before = held.parts(limits);
        change(held);
        let (after, is_empty) = (held.parts(limits), held.runs.is_empty());
        for ((ranked, before), after) in [&mut self.by_count, &mut self.by_bytes].into_iter().zip(before).zip(after) {
            if before != after {
                ranked.remove(&(before, agent.into()));
                if after > 0 && !is_empty {
                    ranked.insert((after, agent.into()));
                }
            }
        }
        if is_empty {
            self.agents.remove(agent);
        }
    }
}
