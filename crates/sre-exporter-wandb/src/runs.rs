use std::collections::{HashMap, VecDeque};

use crate::run::Run;

/// The runs to which this process adds rows. Beyond the limit, a run is evicted, and looked up again with its next row.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    by_key: HashMap<String, Run>,
    /// From the oldest on.
    keys: VecDeque<String>,
}

const MAX_RUNS: usize = 1_000;

impl Runs {
    pub(crate) fn get(&self, key: &str) -> Option<Run> {
        self.by_key.get(key).cloned()
    }

    pub(crate) fn put(&mut self, run: Run) {
        if !self.by_key.contains_key(&run.key) {
            self.keys.push_back(run.key.clone());
        }
        self.by_key.insert(run.key.clone(), run);
        while self.keys.len() > MAX_RUNS
            && let Some(oldest) = self.keys.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }

    /// Forgets a run that the server does not accept rows of, such as a deleted one. It is opened again with its next row.
    pub(crate) fn forget(&mut self, key: &str) {
        if self.by_key.remove(key).is_some() {
            self.keys.retain(|known| known != key);
        }
    }

    pub(crate) fn all(&self) -> Vec<Run> {
        self.keys.iter().filter_map(|key| self.by_key.get(key).cloned()).collect()
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
            let key = number.to_string();
            runs.put(Run { id: key.clone(), key, rows: 0, status: None, last: None });
        }
        assert_eq!((runs.by_key.len(), runs.all().len()), (MAX_RUNS, MAX_RUNS));
        assert!(runs.get("4").is_none() && runs.get("5").is_some());
    }
}
