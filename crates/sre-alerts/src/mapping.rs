use std::sync::Arc;

use sre_core::{
    Alert, BreakerChange, BreakerState, BurnAlert, BurnRate, CascadeReport, CostAlert, CostAlertKind, Severity, Signal,
    SignalKind, Status,
};

/// What makes an alert of a signal; `None` sends nothing.
pub type Mapping = Arc<dyn Fn(&Signal) -> Option<Alert> + Send + Sync>;

/// The mapping of a manager that is given none. An objective that turns `warning`, `critical` or `exhausted` is an alert of
/// one key (`critical` for the latter two), which any better status resolves. An open circuit is a `warning` until it closes,
/// a cascade `critical` until it is over; an agent that is slowed down or refused is one until it works freely again, and
/// other news of costs are told once.
///
/// ```
/// use sre_alerts::default_mapping;
/// use sre_core::{Severity, Signal, SignalKind, Timestamp};
/// let kind = SignalKind::Custom { name: "cascade".into(), severity: Severity::Critical, message: "3 of 4 are down".into() };
/// let signal = Signal { time: Timestamp::from_secs(1_790_000_000), agent: "planner".into(), kind };
/// assert_eq!(default_mapping(&signal).unwrap().title, "cascade of planner");
/// ```
pub fn default_mapping(signal: &Signal) -> Option<Alert> {
    let mut alert = match &signal.kind {
        SignalKind::SloStatusChanged {
            slo, to, consumed, exhaustion_action, burn, alert, spent_in_s, labels, ..
        } => {
            let severity = match to {
                Status::Exhausted | Status::Critical => Severity::Critical,
                Status::Warning => Severity::Warning,
                Status::Unknown | Status::Healthy => Severity::Resolved,
            };
            let mut sentences = vec![match to {
                Status::Exhausted => "The error budget is spent.".to_owned(),
                Status::Critical | Status::Warning => "The error budget burns too fast.".to_owned(),
                Status::Healthy => "The burn has stopped.".to_owned(),
                Status::Unknown => "There is too little data left to say that it burns.".to_owned(),
            }];
            sentences.extend(burn.as_ref().and_then(|burn| burn_text(burn, alert.as_ref())));
            sentences.extend(consumed.filter(|share| share.is_finite()).map(spent_text));
            if *to != Status::Exhausted && severity != Severity::Resolved {
                sentences.extend(spent_in_s.map(|seconds| format!("At this rate it is spent in {}.", span(seconds))));
            }
            if *to == Status::Exhausted && exhaustion_action != "alert" {
                sentences.push(format!("The objective asks for: {}.", exhaustion_action.replace('_', " ")));
            }
            let title = match severity {
                Severity::Resolved => format!("{slo} of {}: {to} again", signal.agent),
                _ => format!("{slo} of {}: {to}", signal.agent),
            };
            Alert {
                severity,
                slo_name: slo.clone(),
                labels: labels.clone(),
                dedup_key: format!("slo/{slo}/{}", signal.agent),
                ..Alert::new(title, sentences.join(" "))
            }
        }
        SignalKind::BreakerChanged(change) => of_breaker(change)?,
        SignalKind::Cascade(report) => of_cascade(report),
        SignalKind::CascadeOver { origin } => Alert {
            severity: Severity::Resolved,
            dedup_key: format!("cascade/{origin}"),
            ..Alert::new(format!("cascade from {origin}: over"), "Nothing follows it any more.")
        },
        SignalKind::Cost(alert) => of_cost(alert),
        SignalKind::Custom { name, severity, message } => Alert {
            severity: *severity,
            dedup_key: format!("{name}/{}", signal.agent),
            ..Alert::new(format!("{name} of {}", signal.agent), message)
        },
        _ => return None,
    };
    alert.agent_id.clone_from(&signal.agent);
    if alert.severity == Severity::Resolved {
        alert.ends_at = Some(signal.time);
    } else {
        alert.starts_at = signal.time;
    }
    Some(alert)
}

/// An open circuit is an incident until it closes; half-open is neither.
fn of_breaker(change: &BreakerChange) -> Option<Alert> {
    let (target, to) = (&change.target, change.to);
    let severity = match to {
        BreakerState::Open | BreakerState::ForcedOpen => Severity::Warning,
        BreakerState::Closed | BreakerState::Disabled => Severity::Resolved,
        BreakerState::HalfOpen => return None,
    };
    let wait =
        change.retry_after_s.map(|seconds| format!(" Trial calls go out in {seconds:.0} s.")).unwrap_or_default();
    let message = format!("The circuit breaker is {}: {}.{wait}", to.as_str().replace('_', " "), change.reason);
    let title = format!("circuit of {target}: {}", to.as_str().replace('_', " "));
    Some(Alert { severity, dedup_key: format!("breaker/{target}"), ..Alert::new(title, message) })
}

fn of_cascade(report: &CascadeReport) -> Alert {
    let path: Vec<String> = report.path.iter().map(|failing| failing.target.to_string()).collect();
    let mut sentences = vec![match &path[..] {
        [only] => format!("It began with {only}."),
        path => format!("Failures went from {}.", path.join(" to ")),
    }];
    if !report.open.is_empty() {
        sentences.push(format!("Open: {}.", count(report.open.len(), "circuit")));
    }
    sentences.push(format!("Exposed, since they call what failed: {}.", count(report.exposed, "agent")));
    Alert {
        severity: Severity::Critical,
        dedup_key: format!("cascade/{}", report.origin),
        ..Alert::new(format!("cascade from {}", report.origin), sentences.join(" "))
    }
}

/// What limits work is an incident until the agent works freely again; the rest is told once.
fn of_cost(cost: &CostAlert) -> Alert {
    let (scope, spent, limit) = (&cost.scope, cost.spent_usd, cost.limit_usd);
    let (severity, key) = match &cost.kind {
        CostAlertKind::Killed => (Severity::Critical, format!("cost/{scope}/status")),
        CostAlertKind::Throttled => (Severity::Warning, format!("cost/{scope}/status")),
        CostAlertKind::Freed => (Severity::Resolved, format!("cost/{scope}/status")),
        CostAlertKind::Exceeded { .. } => (Severity::Critical, format!("cost/{scope}/exceeded")),
        CostAlertKind::Threshold { threshold } if *threshold < 0.9 => {
            (Severity::Info, format!("cost/{scope}/{threshold}"))
        }
        CostAlertKind::Threshold { threshold } => (Severity::Warning, format!("cost/{scope}/{threshold}")),
        CostAlertKind::TaskExceeded { task } => (Severity::Warning, format!("cost/{scope}/task/{task}")),
        CostAlertKind::Runaway { .. } => (Severity::Critical, format!("cost/{scope}/runaway")),
        _ => (Severity::Warning, format!("cost/{scope}/anomaly")),
    };
    let title = format!("costs of {scope}: {}", cost.kind);
    Alert { severity, dedup_key: key, ..Alert::new(title, format!("${spent} of ${limit} are spent.")) }
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn burn_text(burn: &BurnRate, alert: Option<&BurnAlert>) -> Option<String> {
    let rate = burn.rate?;
    let total = burn.good + burn.bad;
    let fast = if rate.is_finite() { format!("{rate:.1} times as fast as it may") } else { "at infinity".to_owned() };
    let limit = alert.map(|alert| format!(", the limit is {}", alert.threshold)).unwrap_or_default();
    Some(format!("Over the last {} it burnt {fast} ({} of {total} bad{limit}).", burn.window, burn.bad))
}

fn spent_text(share: f64) -> String {
    format!("{:.1} % of it is spent.", share * 100.0)
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

    use sre_core::{CostScope, Failing, Target, Timestamp, Window};

    use super::*;

    fn signal(to: Status) -> Signal {
        let kind = SignalKind::SloStatusChanged {
            slo: "answers".into(),
            from: Status::Healthy,
            to,
            consumed: Some(0.62),
            exhaustion_action: "freeze_deployments".into(),
            burn: Some(BurnRate { window: Window::HOUR, rate: Some(14.4), good: 28, bad: 72 }),
            alert: Some(BurnAlert {
                severity: Severity::Critical,
                threshold: 10.0,
                long_window: Window::HOUR,
                short_window: Window::FIVE_MINUTES,
                firing: true,
            }),
            spent_in_s: Some(19.0 * 3_600.0),
            labels: BTreeMap::from([("team".into(), "search".into())]),
        };
        Signal { time: Timestamp::from_secs(1_790_000_000), agent: "support".into(), kind }
    }

    #[test]
    fn an_alert_says_what_burns_and_how_fast() {
        let alert = default_mapping(&signal(Status::Critical)).unwrap();
        assert_eq!(alert.title, "answers of support: critical");
        assert_eq!(
            alert.message,
            "The error budget burns too fast. Over the last 1h it burnt 14.4 times as fast as it may (72 of 100 bad, the limit is 10). 62.0 % of it is spent. At this rate it is spent in 19 h."
        );
        assert_eq!((alert.severity, &*alert.key()), (Severity::Critical, "slo/answers/support"));
        assert_eq!((&*alert.agent_id, &*alert.slo_name, &*alert.labels["team"]), ("support", "answers", "search"));
        assert_eq!(alert.starts_at, Timestamp::from_secs(1_790_000_000));
    }

    #[test]
    fn an_open_circuit_and_a_cascade_are_incidents() {
        let signal = |kind| Signal { time: Timestamp::from_secs(1_790_000_000), agent: String::new(), kind };
        let change = |to| {
            signal(SignalKind::BreakerChanged(BreakerChange {
                target: Target::tool("search"),
                from: BreakerState::Closed,
                to,
                number: 1,
                reason: "5 failures in a row".into(),
                retry_after_s: (to == BreakerState::Open).then_some(30.0),
            }))
        };
        let alert = default_mapping(&change(BreakerState::Open)).unwrap();
        assert_eq!(alert.title, "circuit of tool search: open");
        assert_eq!(alert.message, "The circuit breaker is open: 5 failures in a row. Trial calls go out in 30 s.");
        assert!(default_mapping(&change(BreakerState::HalfOpen)).is_none());
        let closed = default_mapping(&change(BreakerState::Closed)).unwrap();
        assert_eq!((closed.severity, closed.key()), (Severity::Resolved, alert.key()));

        let since = Timestamp::from_secs(1_790_000_000);
        let failing = |target| Failing { target, since };
        let report = CascadeReport {
            origin: Target::model("gpt-5"),
            path: vec![failing(Target::model("gpt-5")), failing(Target::agent("planner"))],
            open: vec![Target::model("gpt-5")],
            exposed: 7,
            blast_radius: Vec::new(),
        };
        let alert = default_mapping(&signal(SignalKind::Cascade(report))).unwrap();
        assert_eq!(
            alert.message,
            "Failures went from model gpt-5 to agent planner. Open: 1 circuit. Exposed, since they call what failed: 7 agents."
        );
        let over = default_mapping(&signal(SignalKind::CascadeOver { origin: Target::model("gpt-5") })).unwrap();
        assert_eq!((over.severity, over.key()), (Severity::Resolved, alert.key()));
    }

    #[test]
    fn an_agent_that_is_refused_is_an_incident_until_it_works_again() {
        let cost = |kind| {
            let scope = CostScope::Agent("planner".into());
            let [spent_usd, limit_usd] = ["96.5", "100"].map(|amount| amount.parse().unwrap());
            let at = Timestamp::from_secs(1_790_000_000);
            let kind = SignalKind::Cost(CostAlert::new(at, scope, spent_usd, limit_usd, kind));
            default_mapping(&Signal { time: at, agent: "planner".into(), kind }).unwrap()
        };
        let killed = cost(CostAlertKind::Killed);
        assert_eq!(killed.title, "costs of agent planner: blocked: the limit is nearly spent");
        assert_eq!((killed.severity, &*killed.message), (Severity::Critical, "$96.5 of $100 are spent."));
        let freed = cost(CostAlertKind::Freed);
        assert_eq!((freed.severity, freed.key()), (Severity::Resolved, killed.key()));
        for (threshold, severity) in [(0.5, Severity::Info), (0.9, Severity::Warning)] {
            assert_eq!(cost(CostAlertKind::Threshold { threshold }).severity, severity);
        }
    }

    #[test]
    fn every_status_of_an_objective_is_one_incident() {
        for (status, severity, text) in [
            (Status::Warning, Severity::Warning, "burns too fast"),
            (Status::Exhausted, Severity::Critical, "asks for: freeze deployments"),
            (Status::Healthy, Severity::Resolved, "The burn has stopped"),
            (Status::Unknown, Severity::Resolved, "too little data"),
        ] {
            let alert = default_mapping(&signal(status)).unwrap();
            assert_eq!((alert.severity, &*alert.dedup_key), (severity, "slo/answers/support"), "{status}");
            assert!(alert.message.contains(text), "{status}: {}", alert.message);
            assert_eq!(alert.ends_at.is_some(), severity == Severity::Resolved);
        }
    }
}
