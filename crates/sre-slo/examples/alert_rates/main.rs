//! Prints the table of `docs/slo.md`: how often alerts begin by chance, and how soon they find a failure, under the old rule of a
//! minimum number of events and under evidence.
//!
//! `cargo run --release -p sre-slo --example alert_rates`

mod simulation;
mod table;

use simulation::{RATES, Rule, TARGETS};

fn main() {
    table::HEADER.iter().for_each(|line| println!("{line}"));
    for target in TARGETS {
        for rate in RATES {
            for rule in [Rule::MinEvents, Rule::Evidence] {
                println!("{}", table::row(rule, target, rate));
            }
        }
    }
}
