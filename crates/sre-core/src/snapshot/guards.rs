use crate::{BreakerSnapshot, BreakerState, CascadeReport, CostStatus, CostsSnapshot, Metric, MetricUnit};

impl BreakerSnapshot {
    /// Emits the breaker's metrics, labelled with the `kind` and name of its `target`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let target = [("kind", self.target.kind.as_str()), ("target", self.target.name.as_str())];
        for state in BreakerState::ALL {
            let is = f64::from(u8::from(self.state == state));
            let metric = Metric::gauge("sre.breaker.state", is).with_labels(&target);
            emit(metric.with_label("state", state.as_str()).with_help("1 for the current state."));
        }
        let rates = self.window.map(|window| (window.failure_rate(), window.slow_call_rate())).unwrap_or_default();
        let failures = Some(if self.window.is_some() { 0.0 } else { f64::from(self.failure_count) });
        for (name, value, unit, help) in [
            ("sre.breaker.consecutive_failures", failures, MetricUnit::None, "Consecutive failures."),
            ("sre.breaker.failure", rates.0, MetricUnit::Ratio, "Share of failed calls in the sliding window."),
            ("sre.breaker.slow_call", rates.1, MetricUnit::Ratio, "Share of slow calls in the sliding window."),
            (
                "sre.breaker.retry_after",
                self.retry_after_s,
                MetricUnit::Seconds,
                "Time until an open breaker admits probe calls.",
            ),
        ] {
            if let Some(value) = value {
                emit(Metric::gauge(name, value).with_unit(unit).with_labels(&target).with_help(help));
            }
        }
        for (name, count, help) in [
            ("sre.breaker.opened", self.opened, "Times the breaker opened."),
            ("sre.breaker.rejected_calls", self.rejected, "Calls the breaker rejected."),
        ] {
            emit(Metric::counter(name, count as f64).with_labels(&target).with_help(help));
        }
    }
}

impl CascadeReport {
    /// Emits the cascade's metrics, labelled with the `kind` and name of its `origin`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let origin = [("kind", self.origin.kind.as_str()), ("origin", self.origin.name.as_str())];
        for (name, count, help) in [
            ("sre.cascade.path_length", self.path.len(), "Length of the path along which failures spread."),
            ("sre.cascade.open_circuits", self.open.len(), "Circuits that are open."),
            ("sre.cascade.exposed_callers", self.exposed, "Callers of failed targets that have not failed yet."),
        ] {
            emit(Metric::gauge(name, count as f64).with_labels(&origin).with_help(help));
        }
    }
}

impl CostsSnapshot {
    /// Emits the metrics of every budget, labelled with its `scope`, `name` and, for an agent on a model, `model`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for budget in &self.budgets {
            let (scope, name, model) = budget.scope.parts();
            let of = [("scope", scope), ("name", name), ("model", model.unwrap_or_default())];
            let of = if model.is_some() { &of[..] } else { &of[..2] };
            for (metric, amount, help) in [
                ("sre.cost.spent", budget.spent_usd, "Spent in the day, or in the organisation's month."),
                ("sre.cost.reserved", budget.reserved_usd, "Reserved for calls in flight."),
                ("sre.cost.limit", budget.limit_usd, "Limit of the budget."),
            ] {
                let metric = Metric::gauge(metric, amount.as_dollars()).with_unit(MetricUnit::Dollars);
                emit(metric.with_labels(of).with_help(help));
            }
            if !budget.scope.agent_name().is_empty() {
                for status in CostStatus::ALL {
                    let is = f64::from(u8::from(budget.status == status));
                    let metric = Metric::gauge("sre.cost.status", is).with_labels(of);
                    emit(metric.with_label("status", status.as_str()).with_help("1 for the agent's current status."));
                }
            }
            if let Some(at) = budget.exhausted_at {
                let metric = Metric::gauge("sre.cost.exhaustion_timestamp", at.as_unix_seconds());
                let help = "Forecast time at which the budget is spent, in Unix time.";
                emit(metric.with_unit(MetricUnit::Seconds).with_labels(of).with_help(help));
            }
        }
        for (name, count, help) in [
            ("sre.cost.dropped_signals", self.lost_signals, "Signals dropped because too many were pending."),
            ("sre.cost.store_failures", self.store_failures, "Failed writes of the cost ledger."),
            ("sre.cost.unattributed_charges", self.overflow, "Charges of agents beyond the agent limit."),
        ] {
            emit(Metric::counter(name, count as f64).with_help(help));
        }
    }
}
