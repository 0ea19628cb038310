//! Prints the table of `docs/slo.md`: how often alerts begin by chance, and how soon they find a failure, under the old rule of a
//! minimum number of events and under evidence.
//!
//! `cargo run --release -p sre-slo --example alert_rates`

mod simulation;

use simulation::{RATES, Rule, TARGETS, begins, minutes_to_detect};

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
