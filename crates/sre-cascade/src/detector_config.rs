use std::time::Duration;

use crate::{BreakerConfig, InvalidConfig, Mitigation};

/// Configures a [`CascadeDetector`](crate::CascadeDetector). Later versions may have more fields: end with `..Default::default()`.
///
/// ```
/// use sre_cascade::DetectorConfig;
/// let config = DetectorConfig { cascade_threshold: 5, ..DetectorConfig::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorConfig {
    /// Number of open circuits that make a cascade, regardless of the call graph. Default: 3.
    pub cascade_threshold: usize,
    /// Number of failing targets that make a cascade if each calls the one before it and did not fail before it. Default: 3.
    pub path_threshold: usize,
    /// Number of failures within `window` that make a target failing; an open circuit always does. The default, 2, ignores
    /// single failures that propagate to the user.
    pub path_failures: u32,
    /// Failures further apart than this are unrelated. Default: 5 min.
    pub window: Duration,
    /// Configuration of the agents' breakers.
    pub agent: BreakerConfig,
    /// Configuration of the tools' breakers.
    pub tool: BreakerConfig,
    /// Configuration of the models' breakers.
    pub model: BreakerConfig,
    /// What to do to the callers of failing targets. Default: nothing.
    pub mitigation: Mitigation,
    /// Maximum number of monitored agents, tools and models. Default: 200,000.
    pub max_targets: usize,
    /// Maximum number of caller–callee pairs. Default: 1,000,000.
    pub max_calls: usize,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            cascade_threshold: 3,
            path_threshold: 3,
            path_failures: 2,
            window: Duration::from_secs(300),
            agent: BreakerConfig::default(),
            tool: BreakerConfig::default(),
            model: BreakerConfig::default(),
            mitigation: Mitigation::None,
            max_targets: 200_000,
            max_calls: 1_000_000,
        }
    }
}

impl DetectorConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid field.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let at_least = |field, found: usize, least: usize, expected| {
            if found >= least { Ok(()) } else { Err(InvalidConfig { field, found: found.to_string(), expected }) }
        };
        at_least("cascade_threshold", self.cascade_threshold, 1, "1 or more")?;
        at_least("path_threshold", self.path_threshold, 2, "2 or more")?;
        at_least("path_failures", self.path_failures as usize, 1, "1 or more")?;
        at_least("max_targets", self.max_targets, 1, "1 or more")?;
        if self.window.is_zero() {
            return Err(InvalidConfig { field: "window", found: "0s".into(), expected: "above 0" });
        }
        if self.mitigation == Mitigation::Limit(Duration::ZERO) {
            return Err(InvalidConfig { field: "mitigation", found: "0s".into(), expected: "above 0" });
        }
        [&self.agent, &self.tool, &self.model].into_iter().try_for_each(BreakerConfig::validate)
    }
}
