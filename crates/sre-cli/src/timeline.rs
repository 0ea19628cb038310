use std::collections::HashMap;

use agent_sre::Timestamp;

/// The error ratio of each agent over the run. Bounded: at most [`MAX_AGENTS`] agents are recorded.
#[derive(Default)]
pub(crate) struct Timelines(HashMap<String, Timeline>);

const MAX_AGENTS: usize = 1_000;
/// Maximum number of cells shown of a timeline. It is recorded in up to twice as many, so that merging pairs leaves enough.
const CELLS: usize = 48;

/// Counts of good and bad events in cells of equal width. The width doubles when the run exceeds the last cell.
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

    /// Returns the error ratio in each cell of the agent's run, `None` where no task ended.
    pub(crate) fn error_ratios(&self, agent: &str) -> Vec<Option<f64>> {
        let cells = self.0.get(agent).map_or(&[][..], |timeline| &timeline.cells);
        let merged = cells.chunks(cells.len().div_ceil(CELLS).max(1));
        merged
            .map(|cells| {
                let (good, bad) = cells.iter().fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
                (good + bad > 0).then(|| bad as f64 / (good + bad) as f64)
            })
            .collect()
    }
}

impl Timeline {
    fn record(&mut self, time: i64, good: bool) {
        // Tasks that ended before the first recorded one count in its cell.
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
    fn a_long_run_keeps_the_shape_of_its_error_ratio() {
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
