//! How often alerts begin by chance, by the simulation of the table in `docs/slo.md`.

#[path = "../examples/alert_rates/simulation.rs"]
mod simulation;
#[allow(dead_code, reason = "the example prints whole rows")]
#[path = "../examples/alert_rates/table.rs"]
mod table;

use simulation::{RATES, Rule, TARGETS, begins, minutes_to_detect};

/// At burn 1, where nothing is wrong: at most 5 warnings and half a critical alert begin in a month.
#[test]
fn chance_raises_few_alerts() {
    for target in TARGETS {
        for rate in RATES {
            // What is rare needs more months to be seen; at high rates nothing is.
            let months = if rate > 10 { 2 } else { 12 };
            let [warnings, criticals] = begins(Rule::Evidence, target, rate, 1.0, months);
            let [warnings, criticals] = [warnings, criticals].map(|count| f64::from(count) / f64::from(months));
            assert!(
                warnings <= 5.0 && criticals <= 0.5,
                "{target}, {rate} an hour: {warnings} and {criticals} a month"
            );
        }
    }
}

/// At 99 % and 100 events an hour.
#[test]
fn a_full_outage_warns_within_five_minutes_and_is_critical_within_seven() {
    let [warning, critical] = minutes_to_detect(Rule::Evidence, 0.99, 100, 100.0, 31);
    assert!(warning.is_some_and(|minutes| minutes <= 5), "{warning:?}");
    assert!(critical.is_some_and(|minutes| minutes <= 7), "{critical:?}");
}

/// All of its rows, and an outage under evidence in those that take little time to simulate; the example prints the others.
#[test]
fn the_table_in_the_documentation_is_what_the_example_prints() {
    let page = include_str!("../../../docs/slo.md");
    assert!(page.contains(&table::HEADER.join("\n")));
    for target in TARGETS {
        for rate in RATES {
            for rule in [Rule::MinEvents, Rule::Evidence] {
                let begin = table::first_columns(rule, target, rate);
                let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&begin)).collect();
                let [row] = rows[..] else { panic!("one row `{begin}`: {rows:?}") };
                if rule == Rule::Evidence && rate <= 100 {
                    let outage = table::outage_columns(rule, target, rate);
                    assert!(row.ends_with(&outage), "found {row}, expected {outage}");
                }
            }
        }
    }
}
