use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::RunLimits;
use crate::Timestamp;

/// The open runs of each agent, with the agents ranked by usage.
#[derive(Debug, Default, PartialEq)]
pub(super) struct AgentUsage {
    agents: FxHashMap<Arc<str>, Usage>,
    by_count: BTreeSet<Rank>,
    by_bytes: BTreeSet<Rank>,
}

/// The time from which a run's time-out counts, and its key.
pub(super) type RunPlace = (Timestamp, Arc<str>);

/// An agent's usage in steps of the limit, at least one.
type Rank = (usize, Arc<str>);

/// The open runs of an agent, and their size.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    runs: BTreeSet<RunPlace>,
    bytes: usize,
}

/// Agents are ranked by usage in steps of a limit, of this many, so that ranks seldom change.
const STEPS: usize = 64;

impl Usage {
    /// Returns the usage in steps of both limits, rounded down.
    fn steps(&self, limits: &RunLimits) -> [usize; 2] {
        let steps = |amount: usize, limit: usize| amount / limit.div_ceil(STEPS).max(1);
        [steps(self.runs.len(), limits.max_open_runs), steps(self.bytes, limits.max_open_bytes)]
    }
}

impl AgentUsage {
    pub(super) fn add(&mut self, agent: &str, place: RunPlace, bytes: usize, limits: &RunLimits) {
        self.change(agent, limits, |usage| {
            usage.runs.insert(place);
            usage.bytes += bytes;
        });
    }

    pub(super) fn remove(&mut self, agent: &str, place: &RunPlace, bytes: usize, limits: &RunLimits) {
        self.change(agent, limits, |usage| {
            usage.runs.remove(place);
            usage.bytes = usage.bytes.saturating_sub(bytes);
        });
    }

    /// Changes the size of an agent's runs.
    pub(super) fn resize(&mut self, agent: &str, before: usize, after: usize, limits: &RunLimits) {
        self.change(agent, limits, |usage| usage.bytes = usage.bytes.saturating_sub(before) + after);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the oldest run of the agent with the most runs; `None` if no agent uses a whole step of the limit.
    pub(super) fn oldest_of_most_runs(&self) -> Option<RunPlace> {
        self.oldest(&self.by_count)
    }

    /// Returns the oldest run of the agent with the largest runs; `None` if no agent uses a whole step of the limit.
    pub(super) fn oldest_of_most_bytes(&self) -> Option<RunPlace> {
        self.oldest(&self.by_bytes)
    }

    /// Returns the oldest run of the agents of the highest rank.
    fn oldest(&self, ranked: &BTreeSet<Rank>) -> Option<RunPlace> {
        let (most, _) = ranked.last()?;
        let of_most = ranked.iter().rev().take_while(|(steps, _)| steps == most);
        of_most.filter_map(|(_, agent)| self.agents.get(agent)?.runs.first()).min().cloned()
    }

    fn change(&mut self, agent: &str, limits: &RunLimits, change: impl FnOnce(&mut Usage)) {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.into(), Usage::default());
        }
        let Some(usage) = self.agents.get_mut(agent) else { return };
        let before = usage.steps(limits);
        change(usage);
        let (after, is_empty) = (usage.steps(limits), usage.runs.is_empty());
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
