use serde::{Deserialize, Serialize};

use super::{BurnAlert, BurnRate, ErrorBudgetSnapshot};
use crate::private::is_rounding;
use crate::{Direction, Metric, MetricUnit, Percentiles, SliReading, SliSpec, Status, Unit, Window};

/// An indicator at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct IndicatorSnapshot {
    /// The indicator's name.
    pub name: String,
    /// The measured value, in `unit`.
    pub value: Option<f64>,
    /// The lower or upper bound of the value, in `unit`.
    pub target: f64,
    /// Share of samples that met the target.
    pub compliance: Option<f64>,
    /// Number of samples.
    pub samples: u64,
    /// The Wilson 95 % interval of a ratio.
    pub interval: Option<(f64, f64)>,
    /// The largest sample, if the indicator keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// Percentiles, if the indicator keeps a distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<Percentiles>,
    /// Whether the target is a lower or an upper bound.
    #[serde(rename = "goal")]
    pub direction: Direction,
    /// The unit.
    #[serde(rename = "measure")]
    pub unit: Unit,
    /// The rolling window of the value.
    pub window: Window,
    /// Samples dropped because they were older than the window, or invalid.
    pub dropped: u64,
    /// The status of the indicator's error budget, or of a mean; `None` for an informational indicator, and for one that
    /// shares the objective's budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why the status is unknown although there are samples, such as `4 of 10 bad: too few to tell from 95 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it counts the same events as the objective, with the same or a larger budget: its error budget, burn rates and alerts are
    /// the objective's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shares_budget: bool,
    /// The error budget of its samples over the objective's window, or the objective's if it shares that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudgetSnapshot>,
    /// The burn rates of that budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub burn_rates: Vec<BurnRate>,
    /// The burn alerts of that budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<BurnAlert>,
}

impl IndicatorSnapshot {
    /// Creates a snapshot from a specification and its reading.
    pub fn new(spec: &SliSpec, reading: SliReading) -> Self {
        Self {
            name: spec.name.clone(),
            value: reading.value,
            target: spec.target,
            compliance: reading.compliance,
            samples: reading.samples,
            interval: reading.interval,
            maximum: reading.maximum,
            percentiles: reading.percentiles,
            direction: spec.direction,
            unit: spec.unit,
            window: spec.window,
            dropped: reading.dropped,
            status: None,
            reason: None,
            shares_budget: false,
            error_budget: None,
            burn_rates: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Emits the indicator's metrics, labelled `indicator` with `label` besides the labels of the objective.
    pub(super) fn metrics(&self, of_slo: &[(&str, &str)], label: &str, emit: &mut dyn FnMut(Metric<'_>)) {
        let (unit, scale) = match self.unit {
            Unit::Ratio | Unit::Difference => (MetricUnit::Ratio, 1.0),
            Unit::Milliseconds => (MetricUnit::Seconds, 1e-3),
            Unit::Usd => (MetricUnit::Dollars, 1.0),
            Unit::Count => (MetricUnit::None, 1.0),
        };
        let value = self.value.map(|value| value * scale);
        let samples = self.samples as f64;
        for (name, value, unit, help) in [
            ("sre.indicator.value", value, unit, "Measured value of the indicator."),
            ("sre.indicator.target", Some(self.target * scale), unit, "Target of the indicator."),
            ("sre.indicator.compliance", self.compliance, MetricUnit::Ratio, "Share of samples that met the target."),
            ("sre.indicator.samples", Some(samples), MetricUnit::None, "Samples in the indicator's window."),
        ] {
            if let Some(value) = value {
                let metric = Metric::gauge(name, value).with_unit(unit).with_labels(of_slo).with_help(help);
                emit(metric.with_label("indicator", label));
            }
        }
        if !self.shares_budget {
            self.budget_metrics(of_slo, label, emit);
        }
    }

    /// Returns the fields of `SLI.to_dict` in the Python package `agent-sre`.
    pub fn to_dict(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "target": self.target,
            "window": self.window,
            "current_value": self.value,
            "compliance": self.compliance,
            "measurement_count": self.samples,
        })
    }

    /// Emits the metrics of the indicator's own error budget.
    fn budget_metrics(&self, of_slo: &[(&str, &str)], label: &str, emit: &mut dyn FnMut(Metric<'_>)) {
        let gauge = |name, value: f64, help| {
            let metric = Metric::gauge(name, value).with_labels(of_slo).with_help(help);
            metric.with_label("indicator", label)
        };
        let budget = self.error_budget.unwrap_or_default();
        for (name, value, unit, help) in [
            (
                "sre.indicator.error_budget.consumed",
                budget.consumed,
                MetricUnit::Ratio,
                "Share of the indicator's error budget spent.",
            ),
            (
                "sre.indicator.error_budget.remaining",
                budget.remaining,
                MetricUnit::Ratio,
                "Share of the indicator's error budget left; negative when overspent.",
            ),
            (
                "sre.indicator.error_budget.exhausts_in",
                budget.spent_in_s,
                MetricUnit::Seconds,
                "Time until the indicator's error budget is spent at the burn rate of the last hour.",
            ),
        ] {
            if let Some(value) = value {
                emit(gauge(name, value, help).with_unit(unit));
            }
        }
        for burn in &self.burn_rates {
            if let Some(rate) = burn.rate {
                let help =
                    "Ratio of samples that missed the target over the window divided by the indicator's error budget.";
                emit(gauge("sre.indicator.burn_rate", rate, help).with_label("window", burn.window.text()));
            }
        }
        for alert in &self.alerts {
            let help = "1 while the burn-rate alert of the indicator's error budget fires.";
            emit(alert.labelled(gauge("sre.indicator.alert_firing", f64::from(u8::from(alert.firing)), help)));
        }
        if let Some(status) = self.status {
            for known in Status::ALL {
                let is = f64::from(u8::from(status == known));
                let help = "1 for the indicator's current status.";
                emit(gauge("sre.indicator.status", is, help).with_label("status", known.as_str()));
            }
        }
    }

    /// Returns the status that the indicator gives its objective; `None` if it is informational or has no samples.
    pub fn status_for_objective(&self) -> Option<Status> {
        self.status.filter(|status| *status != Status::Unknown || self.reason.is_some())
    }

    /// Returns whether it makes the objective a warning or worse.
    pub fn is_alarming(&self) -> bool {
        self.status.is_some_and(|status| status >= Status::Warning)
    }

    /// Returns whether the value meets the target, or `None` without a value.
    pub fn is_met(&self) -> Option<bool> {
        self.value.map(|value| match self.direction {
            _ if is_rounding(value, self.target) => true,
            Direction::AtLeast => value >= self.target,
            Direction::AtMost => value <= self.target,
        })
    }
}
