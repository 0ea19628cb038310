//! Ten minutes of three agents on a simulated clock: their provider fails, and later one of them is caught in a loop.
//!
//! A chief hands work to a researcher and a writer, who call a model. Every call is made behind the model's breaker and within
//! the agent's budget. Run it:
//! `cargo run -p agent-sre --example outage --features cascade,cost`.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use agent_sre::cascade::{BreakerState, CascadeDetector, DetectorConfig};
use agent_sre::cost::{CostGuard, CostObserver, Limits};
use agent_sre::event::TaskFinished;
use agent_sre::{AgentEvent, Clock, ManualClock, Observe, Signal, SignalKind, Target, Timestamp, Usd};

const STEP: Duration = Duration::from_secs(15);
const OUTAGE: std::ops::Range<u64> = 180..360;
const LOOP_FROM: u64 = 480;

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

struct World {
    clock: Arc<ManualClock>,
    start: Timestamp,
    detector: CascadeDetector,
    guard: Arc<CostGuard>,
    costs: CostObserver,
}

pub(crate) fn run(out: &mut impl Write) -> io::Result<()> {
    let start: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
    let clock = Arc::new(ManualClock::new(start));
    let detector = CascadeDetector::with_config(DetectorConfig::default(), clock.clone()).expect("the defaults");
    for agent in ["researcher", "writer"] {
        detector.add_call("chief", agent);
        detector.add_call(agent, Target::model("gpt-5"));
    }
    let limits = Limits { per_agent_daily: usd("8"), ..Limits::default() };
    let guard = Arc::new(CostGuard::with_limits(limits).expect("valid limits").with_clock(clock.clone()));
    let world = World { costs: CostObserver::new(guard.clone()), clock, start, detector, guard };
    for step in 0..40u32 {
        world.clock.set(start.saturating_add(STEP * step));
        world.print_signals(out, |signals| world.detector.evaluate(world.clock.now(), signals))?;
        let mut all_well = true;
        for (agent, cost) in [("researcher", "0.12"), ("writer", "0.08")] {
            let is_looping = agent == "writer" && world.seconds() >= LOOP_FROM;
            for _ in 0..if is_looping { 25 } else { 1 } {
                let outcome = world.call_model(agent, usd(cost));
                all_well &= outcome.is_ok();
                world.finish_task(agent, outcome, out)?;
            }
        }
        let outcome = if all_well { Ok(()) } else { Err("a part of the work failed".to_owned()) };
        world.finish_task("chief", outcome, out)?;
    }
    for agent in ["researcher", "writer"] {
        let budget = world.guard.budget(agent);
        let (spent, limit, status) = (budget.spent_today_usd, budget.daily_limit_usd, budget.status);
        writeln!(out, "{agent} spent ${spent} of ${limit}: {status}")?;
    }
    Ok(())
}

impl World {
    fn seconds(&self) -> u64 {
        self.clock.now().since(self.start).as_secs()
    }

    /// Calls the model within the agent's budget and through the model's breaker.
    fn call_model(&self, agent: &str, cost: Usd) -> Result<(), String> {
        let reservation = self.guard.reserve(agent, cost).map_err(|refused| refused.to_string())?;
        let breaker = self.detector.breaker(Target::model("gpt-5")).expect("it was added");
        let answer =
            breaker.call(|| if OUTAGE.contains(&self.seconds()) { Err("503 from the provider") } else { Ok(()) });
        match answer {
            Ok(()) => reservation.commit(cost).map(drop).map_err(|refused| refused.to_string()),
            // The reservation is released.
            Err(error) => Err(error.to_string()),
        }
    }

    fn finish_task(&self, agent: &str, outcome: Result<(), String>, out: &mut impl Write) -> io::Result<()> {
        let finished = TaskFinished::new(true).with_error(outcome.err());
        let event = AgentEvent::new(self.clock.now(), agent, finished);
        self.print_signals(out, |signals| {
            self.detector.observe(&event, signals);
            self.costs.evaluate(event.time, signals);
        })
    }

    /// Prints the signals.
    fn print_signals(&self, out: &mut impl Write, act: impl FnOnce(&mut dyn FnMut(Signal))) -> io::Result<()> {
        let mut lines = Vec::new();
        act(&mut |signal: Signal| {
            lines.push(match signal.kind {
                // Many probe calls fail: only the first opening and the closing are shown.
                SignalKind::BreakerChanged(change) if change.to == BreakerState::HalfOpen => return,
                SignalKind::BreakerChanged(change) if change.from == BreakerState::HalfOpen && change.to.is_open() => {
                    return;
                }
                SignalKind::BreakerChanged(change) => {
                    format!("{}: {} → {} ({})", change.target, change.from, change.to, change.reason)
                }
                SignalKind::Cascade(report) => {
                    let path: Vec<String> = report.path.iter().map(|failing| failing.target.to_string()).collect();
                    format!("CASCADE from {}: {}", report.origin, path.join(" → "))
                }
                SignalKind::CascadeOver(end) => format!("the cascade from {} is over", end.origin),
                SignalKind::Cost(alert) => {
                    format!("{}: {} (${} of ${})", alert.scope, alert.kind, alert.spent_usd, alert.limit_usd)
                }
                kind => format!("{kind:?}"),
            });
        });
        let at = self.seconds();
        lines.iter().try_for_each(|line| writeln!(out, "{:02}:{:02}  {line}", at / 60, at % 60))
    }
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}
