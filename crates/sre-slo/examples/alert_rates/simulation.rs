use std::time::Duration;

use fastrand::Rng;
use sre_core::{Severity, Timestamp};
use sre_slo::{BudgetConfig, ErrorBudget};

pub(crate) const TARGETS: [f64; 4] = [0.9, 0.95, 0.99, 0.999];
/// Events an hour.
pub(crate) const RATES: [u32; 4] = [1, 10, 100, 1_000];

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const MONTH: u32 = 30 * 24 * 60;

/// What an alert needs besides burn rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A minimum number of events, `ceil(1 / budget)`.
    MinEvents,
    /// Evidence, the default.
    Evidence,
}

/// An objective whose events arrive at random, looked at every minute.
struct Simulation {
    budget: ErrorBudget,
    rng: Rng,
    now: Timestamp,
    /// Events a minute.
    rate: f64,
    /// Share of the events that is bad.
    bad: f64,
    /// Time of the next event.
    next: Timestamp,
}

impl Simulation {
    fn new(rule: Rule, target: f64, rate: u32, burn: f64, seed: u64) -> Self {
        let total = 1.0 - target;
        let min_events = (rule == Rule::MinEvents).then(|| (1.0 / total - 1e-9).ceil() as u64);
        let config = BudgetConfig { total: Some(total), min_events, ..BudgetConfig::default() };
        let budget = ErrorBudget::new(config).expect("a valid budget");
        let rate = f64::from(rate) / 60.0;
        Self { budget, rng: Rng::with_seed(seed), now: START, rate, bad: (burn * total).min(1.0), next: START }
    }

    /// Records the events of a minute, at random times.
    fn advance(&mut self) {
        self.now = self.now.saturating_add(MINUTE);
        while self.next <= self.now {
            self.budget.record(self.next, self.rng.f64() >= self.bad);
            let minutes = -(1.0 - self.rng.f64()).ln() / self.rate;
            self.next = self.next.saturating_add(MINUTE.mul_f64(minutes));
        }
    }

    /// Returns whether a warning fires, and whether a critical alert does.
    fn fires(&self) -> [bool; 2] {
        let alerts = self.budget.reading(self.now).alerts;
        [Severity::Warning, Severity::Critical]
            .map(|severity| alerts.iter().any(|alert| alert.firing && alert.severity == severity))
    }
}

/// Returns how many warnings and critical alerts begin in some months at a burn rate, after a month without looking.
pub(crate) fn begins(rule: Rule, target: f64, rate: u32, burn: f64, months: u32) -> [u32; 2] {
    let mut simulation = Simulation::new(rule, target, rate, burn, u64::from(rate));
    (0..MONTH).for_each(|_| simulation.advance());
    let (mut before, mut begun) = ([false; 2], [0; 2]);
    for _ in 0..months * MONTH {
        simulation.advance();
        let fires = simulation.fires();
        for severity in 0..2 {
            begun[severity] += u32::from(fires[severity] && !before[severity]);
        }
        before = fires;
    }
    begun
}

/// Returns the median number of minutes until a warning and until a critical alert begin, once a service without errors burns at
/// this rate; `None` if that takes longer than three days.
pub(crate) fn minutes_to_detect(rule: Rule, target: f64, rate: u32, burn: f64, runs: u64) -> [Option<u32>; 2] {
    let mut found: [Vec<u32>; 2] = Default::default();
    for seed in 0..runs {
        let mut simulation = Simulation::new(rule, target, rate, 0.0, seed);
        (0..MONTH / 10).for_each(|_| simulation.advance());
        simulation.bad = (burn * (1.0 - target)).min(1.0);
        let mut first = [u32::MAX; 2];
        for minute in 1..=3 * 24 * 60 {
            simulation.advance();
            let fires = simulation.fires();
            for severity in 0..2 {
                if fires[severity] {
                    first[severity] = first[severity].min(minute);
                }
            }
            if first[1] < u32::MAX {
                break;
            }
        }
        found[0].push(first[0]);
        found[1].push(first[1]);
    }
    found.map(|mut minutes| {
        minutes.sort_unstable();
        minutes.get(minutes.len() / 2).copied().filter(|minute| *minute < u32::MAX)
    })
}
