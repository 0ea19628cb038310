use std::collections::BTreeSet;

use sre_core::Timestamp;

/// Runs that threw, without a word of which: each may be any of those that were open then and silent since.
///
/// A run that shows any sign of life afterwards did not throw, so in the end one is left over.
#[derive(Debug, Default)]
pub(crate) struct Raised {
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    time: Timestamp,
    error: String,
    candidates: BTreeSet<String>,
}

/// Chooses one of several runs.
pub(crate) type Guess<'a> = dyn Fn(&BTreeSet<String>) -> Option<String> + 'a;

impl Raised {
    /// One of `candidates` threw at `time`.
    pub(crate) fn add(&mut self, time: Timestamp, error: String, candidates: BTreeSet<String>) {
        self.pending.push(Pending { time, error, candidates });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// `run` lives, or is known to have ended: it is none of those that threw.
    pub(crate) fn rule_out(&mut self, run: &str) {
        for pending in &mut self.pending {
            pending.candidates.remove(run);
        }
    }

    /// The next run that must be the one that threw; where `guess` is given, it chooses among those left.
    pub(crate) fn settle(&mut self, guess: Option<&Guess<'_>>) -> Option<(Timestamp, String, String)> {
        let only = self.pending.iter().position(|pending| pending.candidates.len() <= 1);
        let index = only.or_else(|| (guess.is_some() && !self.pending.is_empty()).then_some(0))?;
        let pending = self.pending.remove(index);
        let run = match guess {
            Some(guess) if pending.candidates.len() > 1 => guess(&pending.candidates),
            _ => pending.candidates.first().cloned(),
        }?;
        self.rule_out(&run);
        Some((pending.time, pending.error, run))
    }
}
