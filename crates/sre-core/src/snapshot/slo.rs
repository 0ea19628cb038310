use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ComponentSnapshot, CompositeMethod, IndicatorSnapshot};
use crate::private::unique_name;
use crate::{Exemplar, Metric, MetricUnit, Severity, Status, Timestamp, Window};

/// An objective of an agent at one moment. As JSON, an entry of `sre check --output json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct SloSnapshot {
    /// The objective's name.
    pub name: String,
    /// The agent; empty for a composite objective over all agents.
    pub agent: String,
    /// The purpose; empty if none was given.
    #[serde(default)]
    pub description: String,
    /// The status.
    pub status: Status,
    /// The status of the objective's own error budget, without the indicators.
    #[serde(default)]
    pub budget_status: Status,
    /// Why the status is unknown although there are events, such as `2 of 10 bad: too few to tell from 90 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Target share of good events; `None` if the objective has no error budget.
    pub target: Option<f64>,
    /// The budget's window.
    pub window: Window,
    /// Good events in the window.
    pub good: u64,
    /// Bad events in the window.
    pub bad: u64,
    /// The share of good events.
    pub sli: Option<f64>,
    /// Wilson 95 % interval of `sli`.
    pub interval: Option<(f64, f64)>,
    /// The error budget.
    pub error_budget: ErrorBudgetSnapshot,
    /// Burn rates over 5m, 30m, 1h, 6h, 24h and 3d.
    pub burn_rates: Vec<BurnRate>,
    /// The policy's alerts.
    pub alerts: Vec<BurnAlert>,
    /// The indicators.
    pub indicators: Vec<IndicatorSnapshot>,
    /// How the objectives of a composite are combined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<CompositeMethod>,
    /// The objectives of a composite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ComponentSnapshot>,
    /// Indicators that other systems measure, which cannot be evaluated here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_evaluable: Vec<String>,
    /// The objective's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Events dropped because they were older than every bucket.
    pub dropped: u64,
    /// The last bad event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bad: Option<Exemplar>,
}

impl SloSnapshot {
    /// Creates the snapshot of an objective without events.
    pub fn new(name: impl Into<String>, agent: impl Into<String>, window: Window) -> Self {
        Self {
            name: name.into(),
            agent: agent.into(),
            description: String::new(),
            status: Status::Unknown,
            budget_status: Status::Unknown,
            reason: None,
            target: None,
            window,
            good: 0,
            bad: 0,
            sli: None,
            interval: None,
            error_budget: ErrorBudgetSnapshot::default(),
            burn_rates: Vec::new(),
            alerts: Vec::new(),
            indicators: Vec::new(),
            method: None,
            objectives: Vec::new(),
            not_evaluable: Vec::new(),
            labels: BTreeMap::new(),
            dropped: 0,
            last_bad: None,
        }
    }

    /// Emits the objective's metrics, labelled `slo` and `agent`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let of_slo = [("slo", self.name.as_str()), ("agent", self.agent.as_str())];
        let budget = &self.error_budget;
        let window = Some(self.window.as_secs_f64());
        for (name, value, unit, help) in [
            ("sre.slo.target", self.target, MetricUnit::Ratio, "Target share of good events."),
            ("sre.slo.sli", self.sli, MetricUnit::Ratio, "Share of good events in the objective's window."),
            ("sre.slo.error_budget", budget.total, MetricUnit::Ratio, "Share of events that may be bad."),
            ("sre.slo.error_budget.consumed", budget.consumed, MetricUnit::Ratio, "Share of the error budget spent."),
            (
                "sre.slo.error_budget.remaining",
                budget.remaining,
                MetricUnit::Ratio,
                "Share of the error budget left; negative when overspent.",
            ),
            (
                "sre.slo.error_budget.exhausts_in",
                budget.spent_in_s,
                MetricUnit::Seconds,
                "Time until the error budget is spent at the burn rate of the last hour.",
            ),
            ("sre.slo.window", window, MetricUnit::Seconds, "Length of the objective's window."),
        ] {
            if let Some(value) = value {
                emit(Metric::gauge(name, value).with_unit(unit).with_labels(&of_slo).with_help(help));
            }
        }
        let gauge = |name, value: f64, help| Metric::gauge(name, value).with_labels(&of_slo).with_help(help);
        for (outcome, count) in [("good", self.good), ("bad", self.bad)] {
            let events = gauge("sre.slo.window_events", count as f64, "Events in the objective's window.");
            let exemplar = self.last_bad.filter(|_| outcome == "bad");
            emit(events.with_label("outcome", outcome).with_exemplar(exemplar));
        }
        let dropped = Metric::counter("sre.slo.dropped_events", self.dropped as f64).with_labels(&of_slo);
        emit(dropped.with_help("Events dropped as too old."));
        for status in Status::ALL {
            let is = f64::from(u8::from(self.status == status));
            emit(gauge("sre.slo.status", is, "1 for the current status.").with_label("status", status.as_str()));
        }
        for burn in &self.burn_rates {
            if let Some(rate) = burn.rate {
                let help = "Error ratio over the window divided by the error budget; 1 spends the budget exactly.";
                emit(gauge("sre.slo.burn_rate", rate, help).with_label("window", burn.window.text()));
            }
        }
        for alert in &self.alerts {
            let help = "1 while the burn-rate alert fires.";
            emit(alert.labelled(gauge("sre.slo.alert_firing", f64::from(u8::from(alert.firing)), help)));
        }
        let mut labels: Vec<String> = Vec::new();
        for indicator in &self.indicators {
            let label = unique_name(&indicator.name, indicator.window, &labels);
            indicator.metrics(&of_slo, &label, emit);
            labels.push(label);
        }
    }
}

/// An error budget at one moment, in ratios. `None` if undefined or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ErrorBudgetSnapshot {
    /// The share of events that may be bad.
    pub total: Option<f64>,
    /// Share of the budget consumed; above 1 when overspent.
    #[serde(serialize_with = "finite")]
    pub consumed: Option<f64>,
    /// Share of the budget remaining; below 0 when overspent.
    #[serde(serialize_with = "finite")]
    pub remaining: Option<f64>,
    /// Seconds until it is spent at the rate of the last hour; 0 if it is spent, `None` if it never will be.
    #[serde(serialize_with = "finite")]
    pub spent_in_s: Option<f64>,
}

/// The burn rate of an error budget over a window; 1.0 spends the budget exactly within its own window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct BurnRate {
    /// The window.
    pub window: Window,
    /// The rate; infinite if there are bad events and the target is 1.0.
    #[serde(serialize_with = "finite")]
    pub rate: Option<f64>,
    /// Good events in the window.
    pub good: u64,
    /// Bad events in the window.
    pub bad: u64,
}

/// A multi-window burn-rate alert. It fires while the burn rates of both windows are at or above the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct BurnAlert {
    /// The severity.
    pub severity: Severity,
    /// The burn rate that both windows must reach.
    pub threshold: f64,
    /// The long window.
    pub long_window: Window,
    /// The short window, a twelfth of the long one.
    pub short_window: Window,
    /// Whether it is firing.
    pub firing: bool,
    /// The long window that it was judged by: `long_window`, or under low traffic a longer one.
    #[serde(default)]
    pub judged_window: Option<Window>,
    /// The end of both windows, the last event, if that is before now.
    #[serde(default)]
    pub judged_until: Option<Timestamp>,
    /// The burn rate over the judged window.
    #[serde(default, serialize_with = "finite")]
    pub rate: Option<f64>,
    /// Good events in the judged window.
    #[serde(default)]
    pub good: u64,
    /// Bad events in the judged window.
    #[serde(default)]
    pub bad: u64,
}

impl BurnRate {
    /// Creates the burn rate over a window; infinite if there are bad events and the target is 1.0.
    pub const fn new(window: Window, rate: Option<f64>, good: u64, bad: u64) -> Self {
        Self { window, rate, good, bad }
    }
}

impl BurnAlert {
    /// Creates an alert that does not fire.
    pub const fn new(severity: Severity, threshold: f64, long_window: Window, short_window: Window) -> Self {
        let (judged_window, judged_until) = (Some(long_window), None);
        let (firing, rate, good, bad) = (false, None, 0, 0);
        Self { severity, threshold, long_window, short_window, firing, judged_window, judged_until, rate, good, bad }
    }

    /// Adds the labels that distinguish the alerts of a policy.
    pub(super) fn labelled<'a>(&self, metric: Metric<'a>) -> Metric<'a> {
        metric
            .with_label("severity", self.severity.as_str())
            .with_label("long_window", self.long_window.text())
            .with_label("short_window", self.short_window.text())
            .with_label("threshold", self.threshold.to_string())
    }
}

/// Serializes infinity as `null`, because JSON cannot represent it.
fn finite<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.filter(|value| value.is_finite()).serialize(serializer)
}
