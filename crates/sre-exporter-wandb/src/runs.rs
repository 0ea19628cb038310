use std::collections::{HashMap, VecDeque};

use crate::run::Run;

/// The runs to which this process adds rows. A run beyond the limit is forgotten, and found again when it has a row.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    by_id: HashMap<String, Run>,
    /// From the oldest on.
    ids: VecDeque<String>,
}

const MAX_RUNS: usize = 1_000;

impl Runs {
    pub(crate) fn get(&self, id: &str) -> Option<Run> {
        self.by_id.get(id).cloned()
    }

    pub(crate) fn put(&mut self, run: Run) {
        if !self.by_id.contains_key(&run.id) {
            self.ids.push_back(run.id.clone());
        }
        self.by_id.insert(run.id.clone(), run);
        while self.ids.len() > MAX_RUNS
            && let Some(oldest) = self.ids.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    pub(crate) fn all(&self) -> Vec<Run> {
        self.ids.iter().filter_map(|id| self.by_id.get(id).cloned()).collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut runs = Runs::default();
        for number in 0..MAX_RUNS + 5 {
            runs.put(Run { id: number.to_string(), rows: 0, status: None, last: None });
        }
        assert_eq!((runs.by_id.len(), runs.all().len()), (MAX_RUNS, MAX_RUNS));
        assert!(runs.get("4").is_none() && runs.get("5").is_some());
    }
}
