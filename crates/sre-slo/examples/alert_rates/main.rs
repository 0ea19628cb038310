//! Prints the table of `docs/slo.md`: how often alerts begin by chance, and how soon they find a failure, under the old rule of a
//! minimum number of events and under evidence.
//!
//! `cargo run --release -p sre-slo --example alert_rates`

mod simulation;

use simulation::{MONTH, RATES, Rule, Simulation, TARGETS, begins};

const MONTHS: u32 = 12;
const RUNS: u64 = 31;

fn main() {
    println!(
        "| target | events an hour | rule | false warnings a month | false criticals a month | burn 5: warning | burn 14.4: critical | outage: warning | outage: critical |"
    );
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for target in TARGETS {
        for rate in RATES {
            for (rule, name) in [(Rule::MinEvents, "minimum"), (Rule::Evidence, "evidence")] {
                let [warnings, criticals] = begins(rule, target, rate, 1.0, MONTHS);
                let a_month = |count: u32| format!("{:.1}", f64::from(count) / f64::from(MONTHS));
                let time =
                    |minutes: Option<u32>| minutes.map_or_else(|| "–".to_owned(), |minutes| format!("{minutes} min"));
                let [five, _] = minutes_to_detect(rule, target, rate, 5.0, RUNS);
                let [_, fast] = minutes_to_detect(rule, target, rate, 14.4, RUNS);
                let [outage_warning, outage] = minutes_to_detect(rule, target, rate, 1.0 / (1.0 - target), RUNS);
                println!(
                    "| {} % | {rate} | {name} | {} | {} | {} | {} | {} | {} |",
                    (target * 1e3).round() / 10.0,
                    a_month(warnings),
                    a_month(criticals),
                    time(five),
                    time(fast),
                    time(outage_warning),
                    time(outage)
                );
            }
        }
    }
}

/// Returns the median number of minutes until a warning and until a critical alert begin, once a service without errors burns at
/// this rate; `None` if that takes longer than three days.
fn minutes_to_detect(rule: Rule, target: f64, rate: u32, burn: f64, runs: u64) -> [Option<u32>; 2] {
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
