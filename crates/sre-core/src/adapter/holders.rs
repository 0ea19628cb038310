use std::cmp::Reverse;
use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::Timestamp;

/// The open runs of each agent, to find the one that holds most.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Holders {
    agents: FxHashMap<String, Held>,
    by_count: BTreeSet<Rank>,
    by_bytes: BTreeSet<Rank>,
}

/// The time from which a run's time-out counts, and its key.
pub(super) type RunPlace = (Timestamp, String);

/// How much an agent holds, and its oldest run: of two that hold as much, the one with the oldest comes last.
type Rank = (usize, Reverse<RunPlace>);

/// What an agent holds.
#[derive(Debug, Default, PartialEq)]
struct Held {
    runs: BTreeSet<RunPlace>,
    bytes: usize,
}

/// Agents whose runs differ by less than this, in bytes, hold as much.
const BYTES_UNIT: usize = 64 << 10;

impl Held {
    fn rank(&self, amount: usize) -> Option<Rank> {
        self.runs.first().map(|oldest| (amount, Reverse(oldest.clone())))
    }
}

impl Holders {
    pub(super) fn add(&mut self, agent: &str, place: RunPlace, bytes: usize) {
        self.change(agent, |held| {
            held.runs.insert(place);
            held.bytes += bytes;
        });
    }

    pub(super) fn remove(&mut self, agent: &str, place: &RunPlace, bytes: usize) {
        self.change(agent, |held| {
            held.runs.remove(place);
            held.bytes = held.bytes.saturating_sub(bytes);
        });
    }

    /// Changes the size of an agent's runs.
    pub(super) fn resize(&mut self, agent: &str, before: usize, after: usize) {
        let Some(held) = self.agents.get_mut(agent) else { return };
        let bytes = held.bytes.saturating_sub(before) + after;
        if bytes / BYTES_UNIT == held.bytes / BYTES_UNIT {
            held.bytes = bytes;
        } else {
            self.change(agent, |held| held.bytes = bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the oldest run of the agent with the most runs.
    pub(super) fn oldest_of_most_runs(&self) -> Option<&RunPlace> {
        self.by_count.last().map(|(_, Reverse(oldest))| oldest)
    }

    /// Returns the oldest run of the agent with the largest runs.
    pub(super) fn oldest_of_most_bytes(&self) -> Option<&RunPlace> {
        self.by_bytes.last().map(|(_, Reverse(oldest))| oldest)
    }

    fn change(&mut self, agent: &str, change: impl FnOnce(&mut Held)) {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.to_owned(), Held::default());
        }
        let Some(held) = self.agents.get_mut(agent) else { return };
        let ranks = |held: &Held| [held.rank(held.runs.len()), held.rank(held.bytes / BYTES_UNIT)];
        let before = ranks(held);
        change(held);
        let after = ranks(held);
        if held.runs.is_empty() {
            self.agents.remove(agent);
        }
        for ((ranked, before), after) in [&mut self.by_count, &mut self.by_bytes].into_iter().zip(before).zip(after) {
            if before != after {
                if let Some(rank) = before {
                    ranked.remove(&rank);
                }
                ranked.extend(after);
            }
        }
    }
}
