use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sre_core::Timestamp;

/// Exceptions without the run that raised them. It may be any run that was open at that time and has reported nothing
/// since.
///
/// A run that reports anything later did not raise. In the end, as many candidates remain as there are exceptions.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Raised {
    pending: Vec<Pending>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    time: Timestamp,
    error: String,
    candidates: BTreeSet<String>,
}

/// Maximum number of exceptions whose run is not known.
const MAX_PENDING: usize = 32;
/// Maximum number of their candidates, of all together.
const MAX_CANDIDATES: usize = 16_384;

/// Chooses one of several runs.
pub(crate) type Guess<'a> = dyn Fn(&BTreeSet<String>) -> Option<String> + 'a;

impl Raised {
    /// Adds an exception that one of `candidates` raised at `time`. Returns how many of the oldest are given up to make room.
    pub(crate) fn add(&mut self, time: Timestamp, error: String, candidates: BTreeSet<String>) -> u64 {
        self.pending.push(Pending { time, error, candidates });
        let mut candidates: usize = self.pending.iter().map(|pending| pending.candidates.len()).sum();
        let mut given_up = 0;
        while self.pending.len() > MAX_PENDING || (candidates > MAX_CANDIDATES && self.pending.len() > 1) {
            candidates -= self.pending.remove(0).candidates.len();
            given_up += 1;
        }
        given_up
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Rules out the runs that are not `open` any more.
    pub(crate) fn retain(&mut self, open: &dyn Fn(&str) -> bool) {
        self.pending.iter_mut().for_each(|pending| pending.candidates.retain(|run| open(run)));
    }

    /// Rules out a run that has reported something since, or has ended.
    pub(crate) fn rule_out(&mut self, run: &str) {
        for pending in &mut self.pending {
            pending.candidates.remove(run);
        }
    }

    /// Returns the next exception whose run is certain: if there are as many candidates as exceptions, all of them
    /// raised. At the end of the input, `guess` chooses.
    pub(crate) fn settle(&mut self, at_end: bool, guess: &Guess<'_>) -> Option<Settled> {
        let is_certain = |pending: &Pending| {
            let among = self.pending.iter().filter(|other| other.candidates.is_subset(&pending.candidates));
            among.count() >= pending.candidates.len()
        };
        let certain = self.pending.iter().position(is_certain);
        let index = certain.or_else(|| (at_end && !self.pending.is_empty()).then_some(0))?;
        let Pending { time, error, candidates } = self.pending.remove(index);
        let run = guess(&candidates);
        if let Some(run) = &run {
            self.rule_out(run);
        }
        Some(Settled { time, error, run })
    }
}

/// An exception and the run that raised it; `None` if every candidate is known to have ended.
pub(crate) struct Settled {
    pub(crate) time: Timestamp,
    pub(crate) error: String,
    pub(crate) run: Option<String>,
}
