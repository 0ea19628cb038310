use super::SpanRuns;
use crate::{AgentEvent, Timestamp};

/// Finds the run of records that name none, of a framework without ids of runs.
///
/// Such a record belongs to the run that has started last. A record that names its run belongs to that one, so that runs which
/// overlap can be distinguished.
#[derive(Debug, Default)]
pub struct CurrentRun {
    key: Option<String>,
}

/// The beginning of the key of a run without a name.
const UNNAMED: &str = "run-";

impl CurrentRun {
    /// Starts a run with the id that its record names, if any. Without one, the run before that has none is closed as
    /// incomplete, because records after the start cannot be of it any more.
    pub fn start(
        &mut self,
        runs: &mut SpanRuns,
        id: Option<&str>,
        agent: Option<&str>,
        time: Timestamp,
        emit: &mut dyn FnMut(AgentEvent),
    ) {
        let Some(id) = id else {
            let key = format!("{UNNAMED}{}", time.as_nanos());
            // The same start again is no other run.
            if let Some(before) = self.of(runs, None).filter(|before| *before != key) {
                runs.abandon_run(&before, time, emit);
            }
            runs.start_run(&key, agent, time, emit);
            self.key = Some(key);
            return;
        };
        runs.start_run(id, agent, time, emit);
    }

    /// Returns the key of the open run of a record with that id, if any; `None` if it is of none.
    pub fn of(&mut self, runs: &mut SpanRuns, id: Option<&str>) -> Option<String> {
        let runs = runs.tracker();
        if let Some(id) = id {
            return runs.get(id).map(|_| id.to_owned());
        }
        if self.key.as_deref().is_none_or(|key| runs.get(key).is_none()) {
            // After a restart, the key is found again.
            let unnamed = runs.iter().filter(|(key, _)| key.starts_with(UNNAMED));
            self.key = unnamed.max_by_key(|(_, run)| run.started).map(|(key, _)| key.to_owned());
        }
        self.key.clone()
    }
}
