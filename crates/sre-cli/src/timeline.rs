use std::collections::HashMap;

use agent_sre::Timestamp;

/// How each agent's errors went over the run, in bounded memory: at most 1,000 agents.
#[derive(Default)]
pub(crate) struct Timelines(HashMap<String, Timeline>);

const MAX_AGENTS: usize = 1_000;
/// The most cells that a timeline is shown in; it is kept in twice as many, so that joining cells leaves enough.
const CELLS: usize = 48;

/// Good and bad counts in cells of equal width, which doubles whenever the run outgrows them.
struct Timeline {
    start: i64,
    width: i64,
    cells: Vec<(u64, u64)>,
}

impl Timelines {
    pub(crate) fn record(&mut self, agent: &str, time: Timestamp, good: bool) {
        if let Some(timeline) = self.0.get_mut(agent) {
            timeline.record(time.as_nanos(), good);
        } else if self.0.len() < MAX_AGENTS {
            let mut timeline = Timeline { start: time.as_nanos(), width: 1_000_000, cells: Vec::new() };
            timeline.record(time.as_nanos(), good);
            self.0.insert(agent.to_owned(), timeline);
        }
    }

    /// The share of errors in each cell of the agent's run, `None` where nothing ended.
    pub(crate) fn error_ratios(&self, agent: &str) -> Vec<Option<f64>> {
        let cells = self.0.get(agent).map_or(&[][..], |timeline| &timeline.cells);
        let joined = cells.chunks(cells.len().div_ceil(CELLS).max(1));
        joined
            .map(|cells| {
                let (good, bad) = cells.iter().fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
                (good + bad > 0).then(|| bad as f64 / (good + bad) as f64)
            })
            .collect()
    }
}

impl Timeline {
    fn record(&mut self, time: i64, good: bool) {
        // What ended before the first that was seen counts with it.
        let since = time.saturating_sub(self.start).max(0);
        while since / self.width >= 2 * CELLS as i64 {
            self.cells = self
                .cells
                .chunks(2)
                .map(|pair| pair.iter().fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1)))
                .collect();
            self.width *= 2;
        }
        let cell = (since / self.width) as usize;
        if cell >= self.cells.len() {
            self.cells.resize(cell + 1, (0, 0));
        }
        let counts = &mut self.cells[cell];
        if good {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_course() {
        let mut timelines = Timelines::default();
        for second in 0..100_000 {
            timelines.record("a", Timestamp::from_secs(second), second < 50_000 || second % 2 == 0);
        }
        let ratios = timelines.error_ratios("a");
        assert!((24..=CELLS).contains(&ratios.len()), "{}", ratios.len());
        assert_eq!(ratios[0], Some(0.0));
        assert!((ratios[ratios.len() - 1].unwrap() - 0.5).abs() < 0.01);
    }
}
