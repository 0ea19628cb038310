use serde::{Deserialize, Serialize};
use sre_core::{Severity, Window};

/// Burn-rate alerts of an error budget: a list of multi-window thresholds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BurnPolicy {
    /// The thresholds, each an alert.
    pub thresholds: Vec<BurnThreshold>,
}

/// Fires while the burn rates over a long and a short window are both at least `rate`. Source: SRE Workbook, ch. 5, "Multiwindow, Multi-Burn-Rate Alerts".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BurnThreshold {
    /// The burn rate, above 0.
    pub rate: f64,
    /// Severity of the alert.
    pub severity: Severity,
    /// The long window. The short window is a twelfth of it. In text, the default is 1h.
    #[serde(default = "hour")]
    pub window: Window,
}

const fn hour() -> Window {
    Window::HOUR
}

impl BurnThreshold {
    /// Creates a threshold.
    pub const fn new(rate: f64, severity: Severity, window: Window) -> Self {
        Self { rate, severity, window }
    }

    /// Returns the short window, which makes the alert stop soon after the errors stop.
    pub fn short_window(&self) -> Window {
        self.window.fraction(12)
    }
}

impl BurnPolicy {
    /// Creates a policy of these thresholds; without any, only an exhausted budget is reported.
    pub const fn new(thresholds: Vec<BurnThreshold>) -> Self {
        Self { thresholds }
    }

    /// Returns the default policy: warning at 2.0 and critical at 10.0, over 1 h and 5 min.
    pub fn standard() -> Self {
        Self::with_rates(2.0, 10.0)
    }

    /// Creates a policy with alerts at the given rates, over 1 h and 5 min.
    pub fn with_rates(warning: f64, critical: f64) -> Self {
        Self::new(vec![
            BurnThreshold { rate: warning, severity: Severity::Warning, window: Window::HOUR },
            BurnThreshold { rate: critical, severity: Severity::Critical, window: Window::HOUR },
        ])
    }

    /// Returns the policy of the SRE Workbook, table 5-8: 14.4 over 1 h and 6 over 6 h are critical, 1 over 3 d is a warning.
    pub fn sre_workbook() -> Self {
        Self::new(vec![
            BurnThreshold { rate: 14.4, severity: Severity::Critical, window: Window::HOUR },
            BurnThreshold { rate: 6.0, severity: Severity::Critical, window: Window::hours(6) },
            BurnThreshold { rate: 1.0, severity: Severity::Warning, window: Window::days(3) },
        ])
    }

    /// Returns the policy of that name. The only name is `sre-workbook`.
    pub fn named(name: &str) -> Option<Self> {
        (name == "sre-workbook").then(Self::sre_workbook)
    }
}

impl Default for BurnPolicy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SRE Workbook, table 5-8.
    #[test]
    fn the_workbook_policy_matches_table_5_8() {
        let written: Vec<String> = BurnPolicy::named("sre-workbook")
            .unwrap()
            .thresholds
            .iter()
            .map(|threshold| {
                format!(
                    "{} at {} over {} and {}",
                    threshold.severity,
                    threshold.rate,
                    threshold.window,
                    threshold.short_window()
                )
            })
            .collect();
        assert_eq!(
            written,
            ["critical at 14.4 over 1h and 5m", "critical at 6 over 6h and 30m", "warning at 1 over 3d and 6h"]
        );
        assert!(BurnPolicy::named("mine").is_none());
    }
}
