use super::{CascadeEnd, Signal, SignalKind};
use crate::{BreakerChange, BreakerState, CascadeReport, CostAlert, CostAlertKind, Severity, Target, Timestamp};

impl BreakerChange {
    /// Returns the signal for the change at `at`. While a circuit is open or half open, its signals are one incident,
    /// with key `breaker/KIND NAME`.
    pub fn into_signal(self, at: Timestamp) -> Signal {
        let (target, to) = (&self.target, self.to);
        let key = format!("breaker/{target}");
        let signal = match to {
            BreakerState::Open | BreakerState::ForcedOpen | BreakerState::HalfOpen => {
                Signal::firing("cascade", key, Severity::Warning, at)
            }
            BreakerState::Closed | BreakerState::Disabled => Signal::resolved("cascade", key, at),
        };
        let name = to.as_str().replace('_', " ");
        let probes = self.retry_after_s.map(|seconds| format!(" Probes start in {seconds:.0} s.")).unwrap_or_default();
        let message = format!("The circuit breaker is {name}: {}.{probes}", self.reason);
        let signal = signal.with_text(format!("circuit of {target}: {name}"), message).with_state(to.as_str());
        signal.with_agent(target.agent_name()).with_kind(SignalKind::BreakerChanged(self))
    }
}

impl CascadeReport {
    /// Returns the signal for a cascade that began at `at`, with key `cascade/KIND NAME` of its origin.
    pub fn into_signal(self, at: Timestamp) -> Signal {
        let path: Vec<String> = self.path.iter().map(|failing| failing.target.to_string()).collect();
        let mut sentences = vec![match &path[..] {
            [only] => format!("It began with {only}."),
            path => format!("Failures propagated from {}.", path.join(" to ")),
        }];
        if !self.open.is_empty() {
            sentences.push(format!("Open: {}.", count(self.open.len(), "circuit")));
        }
        sentences.push(format!("Callers at risk: {}.", self.exposed));
        Signal::firing("cascade", format!("cascade/{}", self.origin), Severity::Critical, at)
            .with_text(format!("cascade from {}", self.origin), sentences.join(" "))
            .with_agent(self.origin.agent_name())
            .with_kind(SignalKind::Cascade(self))
    }

    /// Returns the signal for the end, at `at`, of the cascade from `origin`.
    pub fn over(origin: Target, at: Timestamp) -> Signal {
        Signal::resolved("cascade", format!("cascade/{origin}"), at)
            .with_text(format!("cascade from {origin}: over"), "Failures no longer propagate from it.")
            .with_agent(origin.agent_name())
            .with_kind(SignalKind::CascadeOver(CascadeEnd::new(origin)))
    }
}

impl CostAlert {
    /// Returns the signal for the alert. Throttling and blocking of an agent are one incident until the agent is unblocked,
    /// with key `cost/SCOPE/status`; all other alerts are one-off signals.
    pub fn into_signal(self) -> Signal {
        let (scope, at) = (&self.scope, self.at);
        let status = format!("cost/{scope}/status");
        let one_off = |what: &str, severity| Signal::one_off("cost", format!("cost/{scope}/{what}"), severity, at);
        let signal = match &self.kind {
            CostAlertKind::Killed => Signal::firing("cost", status, Severity::Critical, at).with_state("killed"),
            CostAlertKind::Throttled { .. } => {
                Signal::firing("cost", status, Severity::Warning, at).with_state("throttled")
            }
            CostAlertKind::Unblocked => Signal::resolved("cost", status, at),
            CostAlertKind::Exceeded { .. } => one_off("exceeded", Severity::Critical),
            CostAlertKind::Threshold { threshold } => {
                let severity = if *threshold < 0.9 { Severity::Info } else { Severity::Warning };
                one_off(&threshold.to_string(), severity)
            }
            CostAlertKind::TaskExceeded { task } => one_off(&format!("task/{task}"), Severity::Warning),
            CostAlertKind::Runaway { .. } => one_off("runaway", Severity::Critical),
            CostAlertKind::Anomaly { .. } => one_off("anomaly", Severity::Warning),
        };
        let message = format!("Spent ${} of the ${} limit.", self.spent_usd, self.limit_usd);
        let signal = signal.with_text(format!("Cost alert, {scope}: {}", self.kind), message);
        signal.with_agent(scope.agent_name()).with_kind(SignalKind::Cost(self))
    }
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CostScope, FailingTarget, Phase};

    const AT: Timestamp = Timestamp::from_secs(1_790_000_000);

    #[test]
    fn a_circuit_is_an_incident_until_it_closes() {
        let change = |to| {
            let retry_after_s = (to == BreakerState::Open).then_some(30.0);
            let (target, reason) = (Target::tool("search"), "5 failures in a row".into());
            BreakerChange { target, from: BreakerState::Closed, to, number: 1, reason, retry_after_s }.into_signal(AT)
        };
        let open = change(BreakerState::Open);
        assert_eq!(open.title, "circuit of tool search: open");
        assert_eq!(open.message, "The circuit breaker is open: 5 failures in a row. Probes start in 30 s.");
        let half_open = change(BreakerState::HalfOpen);
        assert_eq!((half_open.phase, half_open.severity), (Phase::Firing, open.severity), "the same incident goes on");
        let closed = change(BreakerState::Closed);
        assert_eq!((closed.phase, closed.key), (Phase::Resolved, open.key));
    }

    #[test]
    fn a_cascade_names_its_path() {
        let failing = |target| FailingTarget::new(target, AT);
        let report = CascadeReport {
            origin: Target::model("gpt-5"),
            path: vec![failing(Target::model("gpt-5")), failing(Target::agent("planner"))],
            open: vec![Target::model("gpt-5")],
            exposed: 7,
            blast_radius: Vec::new(),
        };
        let begun = report.into_signal(AT);
        assert_eq!(
            begun.message,
            "Failures propagated from model gpt-5 to agent planner. Open: 1 circuit. Callers at risk: 7."
        );
        let over = CascadeReport::over(Target::model("gpt-5"), AT);
        assert_eq!((over.phase, over.key), (Phase::Resolved, begun.key));
    }

    #[test]
    fn an_agent_that_is_denied_is_an_incident_until_it_is_unblocked() {
        let cost = |kind| {
            let scope = CostScope::Agent("planner".into());
            let [spent_usd, limit_usd] = ["96.5", "100"].map(|amount| amount.parse().unwrap());
            CostAlert { at: AT, scope, spent_usd, limit_usd, kind }.into_signal()
        };
        let killed = cost(CostAlertKind::Killed);
        assert_eq!(
            (killed.phase, killed.severity, &*killed.message),
            (Phase::Firing, Severity::Critical, "Spent $96.5 of the $100 limit.")
        );
        let unblocked = cost(CostAlertKind::Unblocked);
        assert_eq!((unblocked.phase, unblocked.key), (Phase::Resolved, killed.key));
        for (threshold, severity) in [(0.5, Severity::Info), (0.9, Severity::Warning)] {
            let signal = cost(CostAlertKind::Threshold { threshold });
            assert_eq!((signal.phase, signal.severity), (Phase::OneOff, severity));
        }
    }
}
