use std::cmp::Ordering;

use super::{ExhaustionAction, Signal, SignalKind, SloStatusChange, Status};
use crate::private::{apart, decimal, decimal_with};
use crate::{BurnAlert, BurnRate, Direction, IndicatorSnapshot, Severity, SloSnapshot, Timestamp, Unit, Window};

impl SloSnapshot {
    /// Returns the signal for a change to the snapshot's status at `since`. All signals of an objective and agent are
    /// one incident, with key `slo/NAME/AGENT`.
    pub fn status_changed(&self, from: Status, exhaustion_action: ExhaustionAction, since: Timestamp) -> Signal {
        let worst = if self.only_indicators_alarm() { self.alarming().max_by_key(|one| one.status) } else { None };
        let (alerts, burn_rates, spent_in_s) = match worst {
            Some(one) => (&one.alerts, &one.burn_rates, one.error_budget.and_then(|budget| budget.spent_in_s)),
            None => (&self.alerts, &self.burn_rates, self.error_budget.spent_in_s),
        };
        let alert = alerts.iter().filter(|alert| alert.firing).max_by_key(|alert| alert.severity).copied();
        let judged =
            alert.and_then(|alert| Some(BurnRate::new(alert.judged_window?, alert.rate, alert.good, alert.bad)));
        let burn = judged.or_else(|| burn_rates.iter().find(|burn| burn.window == Window::HOUR).copied());
        let indicator = worst.map(|one| &*one.name).or_else(|| self.budget_indicator()).map(str::to_owned);
        let key = format!("slo/{}/{}", self.name, self.agent);
        let to = self.status;
        let of = if self.agent.is_empty() { self.name.clone() } else { format!("{} of {}", self.name, self.agent) };
        let mut signal = match to {
            Status::Exhausted | Status::Critical => Signal::firing("slo", key, Severity::Critical, since),
            Status::Warning => Signal::firing("slo", key, Severity::Warning, since),
            Status::Unknown | Status::Healthy => Signal::resolved("slo", key, since),
        };
        signal.title = match to {
            Status::Healthy => format!("{of}: healthy again"),
            Status::Unknown => format!("{of}: unknown"),
            _ => format!("{of}: {to}{}", self.failing_indicators()),
        };
        signal.message = self.sentences(burn, alert, exhaustion_action, since).join(" ");
        signal.state = to.as_str().into();
        signal.agent.clone_from(&self.agent);
        signal.slo.clone_from(&self.name);
        signal.labels.clone_from(&self.labels);
        let consumed = self.error_budget.consumed;
        signal.kind = SignalKind::SloStatusChanged(SloStatusChange {
            from,
            to,
            consumed,
            exhaustion_action,
            burn,
            alert,
            spent_in_s,
            indicator,
        });
        signal
    }

    fn sentences(
        &self,
        burn: Option<BurnRate>,
        alert: Option<BurnAlert>,
        action: ExhaustionAction,
        at: Timestamp,
    ) -> Vec<String> {
        let status = self.budget_status;
        if self.only_indicators_alarm() {
            return self.alarming().map(IndicatorSnapshot::sentence).collect();
        }
        let of = self.budget_indicator().map_or(String::new(), |name| format!(" of {name}"));
        let mut sentences = vec![match status {
            Status::Exhausted => format!("The error budget{of} is exhausted."),
            Status::Critical | Status::Warning => format!("The error budget{of} is burning too fast."),
            Status::Healthy if self.status == Status::Unknown => {
                "The error budget no longer burns too fast; an indicator has too few samples to tell.".to_owned()
            }
            Status::Healthy => "The error budget and the indicators no longer burn too fast.".to_owned(),
            Status::Unknown => "Too little data to tell whether the error budget still burns too fast.".to_owned(),
        }];
        sentences.extend(self.reason.as_ref().map(|reason| format!("{reason}.")));
        sentences.extend(burn.and_then(|burn| burn_sentence(burn, alert, "events")));
        sentences.extend(self.worst_objective());
        let consumed = self.error_budget.consumed.filter(|share| share.is_finite());
        // The message is read later, beside the budget of then.
        let at = Timestamp::from_secs(at.as_secs());
        sentences.extend(consumed.map(|share| format!("{:.1} % of the budget was consumed at {at}.", share * 100.0)));
        if matches!(status, Status::Warning | Status::Critical) {
            let spent_in = self.error_budget.spent_in_s;
            sentences.extend(spent_in.map(|seconds| format!("At this rate it is exhausted in {}.", span(seconds))));
        }
        if status == Status::Exhausted && action != ExhaustionAction::Alert {
            sentences.push(format!("Exhaustion action: {}.", action.as_str().replace('_', " ")));
        }
        sentences.extend(self.alarming().map(IndicatorSnapshot::sentence));
        sentences
    }

    /// Returns a sentence about the objective of a composite that consumes most of its own budget.
    fn worst_objective(&self) -> Option<String> {
        let bad = self.objectives.iter().filter(|objective| objective.bad > 0);
        let worst = bad.max_by(|a, b| a.consumed.partial_cmp(&b.consumed).unwrap_or(Ordering::Equal))?;
        Some(format!("Worst objective: {}, {} of {} events bad.", worst.name, worst.bad, worst.good + worst.bad))
    }

    /// Returns how much of the objective's own error budget is consumed, if it is exhausted.
    pub fn exhausted_sentence(&self) -> Option<String> {
        let consumed = self.error_budget.consumed.filter(|_| self.budget_status == Status::Exhausted)?;
        let of = self.budget_indicator().map_or(String::new(), |name| format!("{name}: "));
        let counts = format!("{of}{} of {} bad", self.bad, self.good + self.bad);
        Some(if consumed.is_finite() {
            format!("{counts}: {:.0} % of the error budget is consumed", consumed * 100.0)
        } else {
            format!("{counts}: the target allows no bad event")
        })
    }

    /// Returns how far an exhausted error budget is overspent, why the status is unknown although there are events or samples, the worst
    /// objective of a composite that burns, and a sentence for each indicator that is a warning or worse.
    pub fn reasons(&self) -> Vec<String> {
        let worst = self.worst_objective().filter(|_| self.budget_status >= Status::Warning);
        let unknown = self.indicators.iter().filter_map(IndicatorSnapshot::unknown_sentence);
        let alarming = self.alarming().map(IndicatorSnapshot::sentence);
        self.exhausted_sentence()
            .into_iter()
            .chain(self.reason.clone())
            .chain(worst)
            .chain(alarming)
            .chain(unknown)
            .collect()
    }

    /// Returns the name of the first indicator that shares the objective's error budget.
    pub fn budget_indicator(&self) -> Option<&str> {
        self.indicators.iter().find(|indicator| indicator.shares_budget).map(|indicator| &*indicator.name)
    }

    /// Returns whether it is a warning or worse although its own budget is not.
    fn only_indicators_alarm(&self) -> bool {
        self.status >= Status::Warning && self.budget_status < Status::Warning
    }

    fn alarming(&self) -> impl Iterator<Item = &IndicatorSnapshot> {
        self.indicators.iter().filter(|indicator| indicator.is_alarming())
    }

    /// Returns the names of the indicators, in parentheses, that make the status worse than that of the budget.
    fn failing_indicators(&self) -> String {
        if self.status <= self.budget_status {
            return String::new();
        }
        let names: Vec<&str> = self.alarming().map(|indicator| &*indicator.name).collect();
        format!(" ({})", names.join(", "))
    }
}

impl IndicatorSnapshot {
    /// Returns why the indicator's status is unknown although there are samples.
    pub fn unknown_sentence(&self) -> Option<String> {
        self.reason.as_ref().map(|reason| format!("{}: {reason}", self.name))
    }

    /// Returns a sentence about an indicator that is a warning or worse.
    pub fn sentence(&self) -> String {
        let name = &self.name;
        let firing = self.alerts.iter().filter(|alert| alert.firing).max_by_key(|alert| alert.severity);
        if let Some(alert) = firing {
            let burn =
                BurnRate::new(alert.judged_window.unwrap_or(alert.long_window), alert.rate, alert.good, alert.bad);
            let sentences = burn_sentence(burn, Some(*alert), "samples").into_iter().chain(self.budget_sentence());
            return format!("{name}: {}", sentences.collect::<Vec<_>>().join(" "));
        }
        if let Some(sentence) = self.budget_sentence() {
            return format!("{name}: {sentence}");
        }
        let bound = if self.direction == Direction::AtLeast { "at least" } else { "at most" };
        let [value, target] =
            apart(self.value.unwrap_or_default(), self.target, |number, more| amount(number, self.unit, more));
        format!("{name}: {value} on average over {} samples, expected {bound} {target}.", self.samples)
    }

    /// Returns a sentence about the error budget, if it is exhausted or will be at the present burn rate.
    fn budget_sentence(&self) -> Option<String> {
        let budget = self.error_budget?;
        Some(match budget.consumed? {
            consumed if consumed.is_infinite() => "Its target allows no bad sample.".to_owned(),
            consumed if consumed >= 2.0 => format!("Its error budget is consumed {} times over.", decimal(consumed)),
            consumed if consumed >= 1.0 => format!("{:.0} % of its error budget is consumed.", consumed * 100.0),
            _ => format!("At this rate its error budget is exhausted in {}.", span(budget.spent_in_s?)),
        })
    }
}

/// Formats a value with its unit, with `more` decimals than usual.
fn amount(value: f64, unit: Unit, more: usize) -> String {
    match unit {
        Unit::Ratio | Unit::Difference => format!("{} %", decimal_with(value * 100.0, more)),
        Unit::Milliseconds => format!("{} ms", decimal_with(value, more)),
        Unit::Usd => format!("${}", decimal_with(value, more)),
        Unit::Count => decimal_with(value, more),
    }
}

fn burn_sentence(burn: BurnRate, alert: Option<BurnAlert>, things: &str) -> Option<String> {
    let rate = burn.rate?;
    let rate = if rate.is_finite() { format!("{rate:.1}") } else { "infinite".to_owned() };
    let threshold = alert.map(|alert| format!(" (threshold {})", alert.threshold)).unwrap_or_default();
    let total = burn.good + burn.bad;
    Some(format!("Burn rate {rate} over the last {}{threshold}: {} of {total} {things} bad.", burn.window, burn.bad))
}

fn span(seconds: f64) -> String {
    match seconds / 60.0 {
        minutes if minutes < 1.0 => "less than a minute".to_owned(),
        minutes if minutes < 90.0 => format!("{minutes:.0} min"),
        minutes if minutes < 48.0 * 60.0 => format!("{:.0} h", minutes / 60.0),
        minutes => format!("{:.0} days", minutes / 1_440.0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{ErrorBudgetSnapshot, Phase, SliReading, SliSpec};

    const SINCE: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn snapshot(status: Status) -> SloSnapshot {
        SloSnapshot {
            status,
            budget_status: status,
            target: Some(0.95),
            good: 28,
            bad: 72,
            sli: Some(0.28),
            interval: None,
            error_budget: ErrorBudgetSnapshot {
                total: Some(0.05),
                consumed: Some(0.62),
                remaining: Some(0.38),
                spent_in_s: Some(19.0 * 3_600.0),
            },
            burn_rates: vec![BurnRate { window: Window::HOUR, rate: Some(14.4), good: 28, bad: 72 }],
            alerts: vec![BurnAlert {
                firing: status >= Status::Critical,
                rate: Some(14.4),
                good: 28,
                bad: 72,
                ..BurnAlert::new(Severity::Critical, 10.0, Window::HOUR, Window::FIVE_MINUTES)
            }],
            labels: BTreeMap::from([("team".into(), "search".into())]),
            ..SloSnapshot::new("answers", "support", Window::DAY)
        }
    }

    fn signal(status: Status) -> Signal {
        snapshot(status).status_changed(Status::Healthy, ExhaustionAction::FreezeDeployments, SINCE)
    }

    #[test]
    fn a_budget_that_burns_is_named_beside_a_worse_indicator() {
        let mut both = snapshot(Status::Critical);
        both.budget_status = Status::Warning;
        let spec = SliSpec::at_most("cost_per_task", 0.5, Unit::Usd, Window::DAY).unwrap();
        let mut cost = IndicatorSnapshot::new(&spec, SliReading::default());
        (cost.status, cost.value, cost.samples) = (Some(Status::Critical), Some(0.000_7), 40);
        both.indicators.push(cost);
        let signal = both.status_changed(Status::Healthy, ExhaustionAction::Alert, SINCE);
        assert_eq!(signal.title, "answers of support: critical (cost_per_task)");
        let [budget, indicator] = [
            "The error budget is burning too fast.",
            "cost_per_task: $0.0007 on average over 40 samples, expected at most $0.5.",
        ];
        assert!(signal.message.starts_with(budget) && signal.message.ends_with(indicator), "{}", signal.message);
    }

    #[test]
    fn a_sentence_about_an_indicator_says_what_becomes_of_its_error_budget() {
        let spec = SliSpec::at_most("response_latency", 2_000.0, Unit::Milliseconds, Window::HOUR).unwrap();
        let sentence = |consumed: f64, spent_in_s: f64, is_firing: bool| {
            let mut latency = IndicatorSnapshot::new(&spec, SliReading::default());
            let mut budget = ErrorBudgetSnapshot::default();
            (budget.consumed, budget.spent_in_s) = (Some(consumed), Some(spent_in_s));
            (latency.status, latency.error_budget) = (Some(Status::Critical), Some(budget));
            latency.alerts = vec![BurnAlert { firing: is_firing, ..snapshot(Status::Critical).alerts[0] }];
            latency.sentence()
        };
        let burns = "response_latency: Burn rate 14.4 over the last 1h (threshold 10): 72 of 100 samples bad.";
        for (consumed, spent_in_s, is_firing, expected) in [
            (0.62, 68_400.0, true, format!("{burns} At this rate its error budget is exhausted in 19 h.")),
            (18.182, 0.0, true, format!("{burns} Its error budget is consumed 18.2 times over.")),
            (18.182, 0.0, false, "response_latency: Its error budget is consumed 18.2 times over.".to_owned()),
            (1.5, 0.0, false, "response_latency: 150 % of its error budget is consumed.".to_owned()),
            (f64::INFINITY, 0.0, false, "response_latency: Its target allows no bad sample.".to_owned()),
        ] {
            assert_eq!(sentence(consumed, spent_in_s, is_firing), expected);
        }
    }

    #[test]
    fn a_signal_says_what_burns_and_how_fast() {
        let signal = signal(Status::Critical);
        assert_eq!(signal.title, "answers of support: critical");
        assert_eq!(
            signal.message,
            "The error budget is burning too fast. Burn rate 14.4 over the last 1h (threshold 10): 72 of 100 events bad. \
             62.0 % of the budget was consumed at 2026-09-21T14:13:20Z. At this rate it is exhausted in 19 h."
        );
        assert_eq!((signal.severity, &*signal.key), (Severity::Critical, "slo/answers/support"));
        assert_eq!((&*signal.agent, &*signal.slo, &*signal.labels["team"]), ("support", "answers", "search"));
        assert_eq!(signal.time, SINCE);
    }

    #[test]
    fn every_status_is_of_one_incident() {
        for (status, phase, severity, text) in [
            (Status::Warning, Phase::Firing, Severity::Warning, "burning too fast"),
            (Status::Exhausted, Phase::Firing, Severity::Critical, "Exhaustion action: freeze deployments"),
            (Status::Healthy, Phase::Resolved, Severity::Resolved, "no longer burn too fast"),
            (Status::Unknown, Phase::Resolved, Severity::Resolved, "Too little data"),
        ] {
            let signal = signal(status);
            assert_eq!((signal.phase, signal.severity, &*signal.state), (phase, severity, status.as_str()));
            assert_eq!(signal.key, "slo/answers/support");
            assert!(signal.message.contains(text), "{status}: {}", signal.message);
        }
    }
}
