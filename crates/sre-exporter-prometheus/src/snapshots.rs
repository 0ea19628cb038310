use sre_core::{
    AlertsSnapshot, BreakerSnapshot, BreakerState, CascadeReport, CostStatus, CostsSnapshot, IndicatorSnapshot,
    SloSnapshot, Snapshot, Status, Timestamp, Totals, Unit,
};

use crate::PrometheusExporter;

impl PrometheusExporter {
    /// Takes in snapshots of any kind it knows.
    pub fn export(&mut self, snapshots: &[Snapshot]) {
        for snapshot in snapshots {
            match snapshot {
                Snapshot::Slo(slo) => self.export_slo(slo),
                Snapshot::Totals(totals) => self.export_totals(totals),
                Snapshot::Alerts(alerts) => self.export_alerts(alerts),
                Snapshot::Breaker(breaker) => self.export_breaker(breaker),
                Snapshot::Cascade(cascade) => self.export_cascade(cascade),
                Snapshot::Costs(costs) => self.export_costs(costs),
                _ => {}
            }
        }
    }

    /// An objective, told apart by its name and agent.
    pub fn export_slo(&mut self, slo: &SloSnapshot) {
        let of_slo = [("slo", slo.name.as_str()), ("agent", slo.agent.as_str())];
        let budget = &slo.error_budget;
        for (name, value, help) in [
            ("sre_slo_target_ratio", slo.target, "The share of events that should be good."),
            ("sre_slo_sli_ratio", slo.sli, "The share of events in the objective's window that were good."),
            ("sre_slo_error_budget_ratio", budget.total, "The share of events that may be bad."),
            ("sre_slo_error_budget_consumed_ratio", budget.consumed, "The share of the error budget that is spent."),
            (
                "sre_slo_error_budget_remaining_ratio",
                budget.remaining,
                "The share of the error budget that is left, below 0 when overspent.",
            ),
            (
                "sre_slo_error_budget_exhausts_in_seconds",
                budget.spent_in_s,
                "Time until the error budget is spent at the rate of the last hour.",
            ),
            ("sre_slo_window_seconds", Some(slo.window.as_secs_f64()), "The objective's window."),
        ] {
            self.put(name, value, &of_slo, &[], help);
        }
        for (outcome, count) in [("good", slo.good), ("bad", slo.bad)] {
            let help = "Events in the objective's window.";
            self.put("sre_slo_window_events", Some(count as f64), &of_slo, &[("outcome", outcome)], help);
        }
        let help = "Events that came later than any bucket reaches back.";
        self.put("sre_slo_dropped_events", Some(slo.dropped as f64), &of_slo, &[], help);
        for status in [Status::Healthy, Status::Unknown, Status::Warning, Status::Critical, Status::Exhausted] {
            let is = f64::from(u8::from(slo.status == status));
            self.put("sre_slo_status", Some(is), &of_slo, &[("status", status.as_str())], "1 for the status it has.");
        }
        for burn in &slo.burn_rates {
            let help = "Error ratio over the window divided by the error budget; 1 spends it exactly.";
            self.put("sre_slo_burn_rate", burn.rate, &of_slo, &[("window", &burn.window.to_string())], help);
        }
        for alert in &slo.alerts {
            let labels = [
                ("severity", alert.severity.as_str()),
                ("long_window", &alert.long_window.to_string()),
                ("short_window", &alert.short_window.to_string()),
                ("threshold", &alert.threshold.to_string()),
            ];
            let firing = f64::from(u8::from(alert.firing));
            self.put("sre_slo_alert_firing", Some(firing), &of_slo, &labels, "1 while the burn alert fires.");
        }
        for indicator in &slo.indicators {
            self.export_indicator(indicator, &of_slo);
        }
    }

    /// What all events add up to, as counters.
    pub fn export_totals(&mut self, totals: &Totals) {
        let outcomes = [
            ("sre_tasks_total", totals.succeeded, totals.failed, "Tasks that ended."),
            ("sre_tool_calls_total", totals.tool_calls - totals.tool_errors, totals.tool_errors, "Calls of tools."),
            (
                "sre_llm_calls_total",
                totals.llm_calls - totals.llm_errors,
                totals.llm_errors,
                "Calls of language models.",
            ),
        ];
        for (name, succeeded, failed, help) in outcomes {
            self.count(name, succeeded as f64, &[("outcome", "succeeded")], help);
            self.count(name, failed as f64, &[("outcome", "failed")], help);
        }
        self.count("sre_incomplete_tasks_total", totals.incomplete as f64, &[], "Failed tasks whose end never came.");
        for (direction, tokens) in [("input", totals.input_tokens), ("output", totals.output_tokens)] {
            self.count(
                "sre_llm_tokens_total",
                tokens as f64,
                &[("direction", direction)],
                "Tokens of language models.",
            );
        }
        self.count("sre_cost_dollars_total", totals.cost_usd.as_dollars(), &[], "What tasks cost.");
    }

    /// How alerts get through.
    pub fn export_alerts(&mut self, alerts: &AlertsSnapshot) {
        let help = "Alerts that were taken in, by what became of them.";
        for (outcome, count) in [
            ("sent", alerts.sent),
            ("deduplicated", alerts.deduplicated),
            ("silenced", alerts.silenced),
            ("unrouted", alerts.unrouted),
            ("not_open", alerts.not_open),
        ] {
            self.count("sre_alerts_total", count as f64, &[("outcome", outcome)], help);
        }
        for (name, count, help) in [
            ("sre_alert_repeats_total", alerts.repeated, "Repeats of incidents that went on."),
            ("sre_alert_escalations_total", alerts.escalated, "Incidents that nobody acknowledged in time."),
            ("sre_alert_incidents_forgotten_total", alerts.forgotten, "Open incidents that were forgotten."),
            ("sre_alert_store_failures_total", alerts.store_failures, "Times that the history could not be used."),
        ] {
            self.count(name, count as f64, &[], help);
        }
        self.put("sre_alert_incidents_open", Some(alerts.open as f64), &[], &[], "Incidents that are open.");
        for channel in &alerts.channels {
            let of_channel = [("channel", channel.name.as_str())];
            let help = "Messages that wait for the channel.";
            self.put("sre_alert_queue_length", Some(channel.queued as f64), &of_channel, &[], help);
            let help = "Alerts that wait in a group or behind the channel's rate limit.";
            self.put("sre_alert_held", Some(channel.held as f64), &of_channel, &[], help);
            let help = "Messages by what became of them.";
            for (result, count) in
                [("delivered", channel.delivered), ("failed", channel.failed), ("dropped", channel.dropped)]
            {
                let labels = [of_channel[0], ("result", result)];
                self.count("sre_alert_deliveries_total", count as f64, &labels, help);
            }
            let help = "Attempts beyond the first.";
            self.count("sre_alert_retries_total", channel.retries as f64, &of_channel, help);
            let help = "Alerts that went out within a group or a summary.";
            self.count("sre_alert_summarised_total", channel.summarised as f64, &of_channel, help);
        }
    }

    /// A circuit breaker, told apart by the kind and name of its target.
    pub fn export_breaker(&mut self, breaker: &BreakerSnapshot) {
        let target = [("kind", breaker.target.kind.as_str()), ("target", breaker.target.name.as_str())];
        for state in [
            BreakerState::Closed,
            BreakerState::Open,
            BreakerState::HalfOpen,
            BreakerState::ForcedOpen,
            BreakerState::Disabled,
        ] {
            let is = f64::from(u8::from(breaker.state == state));
            let help = "1 for the state it has.";
            self.put("sre_breaker_state", Some(is), &target, &[("state", state.as_str())], help);
        }
        let rates = breaker.window.map(|window| (window.failure_rate(), window.slow_call_rate())).unwrap_or_default();
        for (name, value, help) in [
            ("sre_breaker_failures_in_a_row", Some(f64::from(breaker.failure_count)), "Failures in a row."),
            ("sre_breaker_failure_rate_ratio", rates.0, "The share of calls in its window that failed."),
            ("sre_breaker_slow_call_rate_ratio", rates.1, "The share of calls in its window that took too long."),
            (
                "sre_breaker_retry_after_seconds",
                breaker.retry_after_s,
                "Time until an open breaker admits probe calls.",
            ),
        ] {
            self.put(name, value, &target, &[], help);
        }
        for (name, count, help) in [
            ("sre_breaker_opened_total", breaker.opened, "Times that it opened."),
            ("sre_breaker_rejected_calls_total", breaker.rejected, "Calls that it refused."),
        ] {
            self.count(name, count as f64, &target, help);
        }
    }

    /// A cascade that goes on.
    pub fn export_cascade(&mut self, cascade: &CascadeReport) {
        let origin = [("kind", cascade.origin.kind.as_str()), ("origin", cascade.origin.name.as_str())];
        for (name, count, help) in [
            ("sre_cascade_path_length", cascade.path.len(), "How many failed one after the other."),
            ("sre_cascade_open_circuits", cascade.open.len(), "Circuits that are open."),
            ("sre_cascade_exposed", cascade.exposed, "How many depend on what failed, and have not failed yet."),
        ] {
            self.put(name, Some(count as f64), &origin, &[], help);
        }
    }

    /// Budgets of money, told apart by whose they are.
    pub fn export_costs(&mut self, costs: &CostsSnapshot) {
        for budget in &costs.budgets {
            let (scope, name, model) = budget.scope.parts();
            let of = [("scope", scope), ("name", name), ("model", model.unwrap_or_default())];
            let of = if model.is_some() { &of[..] } else { &of[..2] };
            for (metric, amount, help) in [
                ("sre_cost_spent_dollars", budget.spent_usd, "What is spent in the day, or the organisation's month."),
                ("sre_cost_reserved_dollars", budget.reserved_usd, "What is reserved for calls that go on."),
                ("sre_cost_limit_dollars", budget.limit_usd, "What may be spent."),
            ] {
                self.put(metric, Some(amount.as_dollars()), of, &[], help);
            }
            if !budget.scope.agent_name().is_empty() {
                for status in [CostStatus::Ok, CostStatus::Throttled, CostStatus::Killed] {
                    let is = f64::from(u8::from(budget.status == status));
                    let help = "1 for what the agent may do.";
                    self.put("sre_cost_status", Some(is), of, &[("status", status.as_str())], help);
                }
            }
            let at = budget.exhausted_at.map(Timestamp::as_unix_seconds);
            let help = "When it is spent at the pace of the period so far, in Unix time.";
            self.put("sre_cost_exhausted_timestamp_seconds", at, of, &[], help);
        }
        for (name, count, help) in [
            ("sre_cost_signals_lost_total", costs.lost_signals, "Signals that nobody took in time."),
            ("sre_cost_store_failures_total", costs.store_failures, "Times that the ledger could not be written."),
            ("sre_cost_overflow_total", costs.overflow, "Amounts of agents that found no room."),
        ] {
            self.count(name, count as f64, &[], help);
        }
    }

    fn export_indicator(&mut self, indicator: &IndicatorSnapshot, of_slo: &[(&str, &str)]) {
        let (suffix, scale) = match indicator.unit {
            Unit::Ratio | Unit::Difference => ("_ratio", 1.0),
            Unit::Milliseconds => ("_seconds", 1e-3),
            Unit::Usd => ("_dollars", 1.0),
            Unit::Count => ("", 1.0),
        };
        let labels = [("indicator", indicator.name.as_str())];
        let scaled = |value: f64| value * scale;
        let value = indicator.value.map(scaled);
        self.put(&format!("sre_indicator_value{suffix}"), value, of_slo, &labels, "What the indicator measured.");
        let target = Some(scaled(indicator.target));
        self.put(&format!("sre_indicator_target{suffix}"), target, of_slo, &labels, "The indicator's target.");
        let help = "The share of samples that met the indicator's target.";
        self.put("sre_indicator_compliance_ratio", indicator.compliance, of_slo, &labels, help);
        let samples = Some(indicator.samples as f64);
        self.put("sre_indicator_samples", samples, of_slo, &labels, "Samples in the indicator's window.");
    }

    fn put(&mut self, name: &str, value: Option<f64>, of_slo: &[(&str, &str)], labels: &[(&str, &str)], help: &str) {
        if let Some(value) = value {
            // The names above are valid, which is all that can be wrong.
            let _ = self.set_gauge(name, value, &[of_slo, labels].concat(), help);
        }
    }

    fn count(&mut self, name: &str, value: f64, labels: &[(&str, &str)], help: &str) {
        let _ = self.inc_counter(name, value, labels, help);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sre_core::{BurnRate, ChannelSnapshot, Direction, ErrorBudgetSnapshot, Window};

    use super::*;

    fn slo() -> SloSnapshot {
        SloSnapshot {
            name: "answers".into(),
            agent: "support".into(),
            status: Status::Exhausted,
            target: Some(1.0),
            window: Window::MONTH,
            good: 9,
            bad: 1,
            sli: Some(0.9),
            interval: None,
            error_budget: ErrorBudgetSnapshot { total: Some(0.0), consumed: Some(f64::INFINITY), ..Default::default() },
            burn_rates: vec![BurnRate { window: Window::HOUR, rate: Some(f64::INFINITY), good: 9, bad: 1 }],
            alerts: Vec::new(),
            indicators: vec![IndicatorSnapshot {
                name: "response_latency".into(),
                value: Some(1500.0),
                target: 2000.0,
                compliance: None,
                samples: 10,
                interval: None,
                maximum: None,
                percentiles: None,
                direction: Direction::AtMost,
                unit: Unit::Milliseconds,
                window: Window::try_from(Duration::from_secs(3600)).unwrap(),
                dropped: 0,
            }],
            not_evaluable: Vec::new(),
            labels: Default::default(),
            dropped: 3,
        }
    }

    #[test]
    fn units_are_base_units_and_what_does_not_exist_has_no_sample() {
        let mut exporter = PrometheusExporter::new();
        exporter.export(&[Snapshot::Slo(Box::new(slo()))]);
        let text = exporter.render();
        let labels = "slo=\"answers\",agent=\"support\"";
        for line in [
            format!("sre_indicator_value_seconds{{{labels},indicator=\"response_latency\"}} 1.5"),
            format!("sre_indicator_target_seconds{{{labels},indicator=\"response_latency\"}} 2"),
            format!("sre_slo_burn_rate{{{labels},window=\"1h\"}} +Inf"),
            format!("sre_slo_status{{{labels},status=\"exhausted\"}} 1"),
            format!("sre_slo_status{{{labels},status=\"healthy\"}} 0"),
            format!("sre_slo_window_seconds{{{labels}}} 2592000"),
            format!("sre_slo_dropped_events{{{labels}}} 3"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("exhausts_in") && !text.contains("compliance"));
    }
    #[test]
    fn what_is_lost_of_alerts_is_seen() {
        let channel = ChannelSnapshot {
            name: "oncall".into(),
            queued: 3,
            failed: 2,
            dropped: 1,
            retries: 7,
            last_error: "answered 400: no".into(),
            ..ChannelSnapshot::default()
        };
        let alerts =
            AlertsSnapshot { deduplicated: 5, store_failures: 1, channels: vec![channel], ..Default::default() };
        let mut exporter = PrometheusExporter::new();
        exporter.export(&[Snapshot::Alerts(alerts)]);
        let text = exporter.render();
        for line in [
            "sre_alerts_total{outcome=\"deduplicated\"} 5",
            "sre_alert_queue_length{channel=\"oncall\"} 3",
            "sre_alert_deliveries_total{channel=\"oncall\",result=\"failed\"} 2",
            "sre_alert_deliveries_total{channel=\"oncall\",result=\"dropped\"} 1",
            "sre_alert_retries_total{channel=\"oncall\"} 7",
            "sre_alert_store_failures_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
