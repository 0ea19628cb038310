use std::time::Duration;

use serde::Serialize;
use sre_core::private::duration;

/// Configures when a breaker opens and how it recovers. Later versions may have more fields: end with `..Default::default()`.
/// The JSON has the form of a breakers file.
///
/// ```
/// use std::time::Duration;
/// use sre_cascade::{BreakerConfig, CircuitBreaker, SlidingWindow, WindowSize};
/// let window = SlidingWindow { size: WindowSize::Time(Duration::from_secs(60)), ..SlidingWindow::default() };
/// let config = BreakerConfig { window: Some(window), recovery_multiplier: 2.0, ..BreakerConfig::default() };
/// assert!(CircuitBreaker::with_config("planner", config).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerConfig {
    /// Number of consecutive failures that open the breaker. Ignored when `window` is set. Default: 5.
    pub failure_threshold: u32,
    /// How long the breaker stays open before it admits probe calls. Default: 30 s.
    #[serde(serialize_with = "duration::serialize")]
    pub recovery_timeout: Duration,
    /// Multiplies the recovery timeout each time the probe calls fail. Default: 1, a constant timeout.
    pub recovery_multiplier: f64,
    /// Upper bound of the recovery timeout. Default: 10 min.
    #[serde(serialize_with = "duration::serialize")]
    pub max_recovery_timeout: Duration,
    /// Randomly shortens or lengthens the recovery timeout by up to this ratio (0–1), so that many breakers do not probe at
    /// the same moment. Default: 0.
    pub recovery_jitter: f64,
    /// Number of probe calls admitted while the breaker is half-open. It closes when all succeed and opens again at the first
    /// failure; when `window` is set, its rates are applied once all have ended. Default: 1.
    pub half_open_max_calls: u32,
    /// Opens the breaker again if its probe calls have not ended after this time. Default: no limit.
    #[serde(serialize_with = "duration::serialize_option", skip_serializing_if = "Option::is_none")]
    pub half_open_timeout: Option<Duration>,
    /// Opens the breaker by failure and slow-call rates instead of consecutive failures. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<SlidingWindow>,
    /// Whether [`ErrorClass::RateLimit`](crate::ErrorClass::RateLimit) counts as a failure. Default: true.
    pub count_rate_limits: bool,
    /// Seed of the random jitter, for reproducible tests. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Opens a breaker when the rate of failed or slow calls in a sliding window reaches a threshold. Terms and defaults are those
/// of Resilience4j.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlidingWindow {
    /// How far back the window reaches. Default: 100 calls.
    #[serde(flatten)]
    pub size: WindowSize,
    /// Number of calls in the window below which the breaker does not open. Default: 100.
    pub minimum_calls: u32,
    /// Ratio of failed calls that opens the breaker, above 0 and at most 1. Default: 0.5.
    pub failure_rate: f64,
    /// Ratio of slow calls that opens the breaker, above 0 and at most 1. Default: 1.
    pub slow_call_rate: f64,
    /// Duration above which a call is slow. From 1 s on, durations are measured to within 10 ms. Default: no call is slow.
    #[serde(serialize_with = "duration::serialize_option", skip_serializing_if = "Option::is_none")]
    pub slow_call: Option<Duration>,
}

/// The extent of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WindowSize {
    /// The last 1 to 65,536 calls.
    Calls(u32),
    /// The calls of the last 1 s to 1 day, in 60 buckets.
    Time(#[serde(serialize_with = "duration::serialize")] Duration),
}

/// An invalid field of a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct InvalidConfig {
    /// The name of the field.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// The valid values.
    pub expected: &'static str,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            recovery_timeout: Duration::from_secs(30),
            recovery_multiplier: 1.0,
            max_recovery_timeout: Duration::from_secs(600),
            recovery_jitter: 0.0,
            half_open_max_calls: 1,
            half_open_timeout: None,
            window: None,
            count_rate_limits: true,
            seed: None,
        }
    }
}

impl Default for SlidingWindow {
    fn default() -> Self {
        Self {
            size: WindowSize::Calls(100),
            minimum_calls: 100,
            failure_rate: 0.5,
            slow_call_rate: 1.0,
            slow_call: None,
        }
    }
}

const YEAR: Duration = Duration::from_secs(366 * 86_400);
const COUNT: std::ops::RangeInclusive<u32> = 1..=1_000_000;

impl BreakerConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid field.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const TIMEOUT: &str = "above 0 and at most 1 year";
        let longest = self.max_recovery_timeout;
        check("failure_threshold", &self.failure_threshold, COUNT.contains(&self.failure_threshold), "1 to 1,000,000")?;
        check("recovery_timeout", &self.recovery_timeout, is_timeout(self.recovery_timeout), TIMEOUT)?;
        check(
            "recovery_multiplier",
            &self.recovery_multiplier,
            (1.0..=1e3).contains(&self.recovery_multiplier),
            "1 to 1,000",
        )?;
        check(
            "max_recovery_timeout",
            &longest,
            is_timeout(longest) && longest >= self.recovery_timeout,
            "at least `recovery_timeout`, at most 1 year",
        )?;
        check(
            "recovery_jitter",
            &self.recovery_jitter,
            (0.0..=1.0).contains(&self.recovery_jitter),
            "a ratio from 0 to 1",
        )?;
        check(
            "half_open_max_calls",
            &self.half_open_max_calls,
            COUNT.contains(&self.half_open_max_calls),
            "1 to 1,000,000",
        )?;
        check("half_open_timeout", &self.half_open_timeout, self.half_open_timeout.is_none_or(is_timeout), TIMEOUT)?;
        self.window.as_ref().map_or(Ok(()), SlidingWindow::validate)
    }
}

impl SlidingWindow {
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        const RATIO: &str = "a ratio above 0 and at most 1";
        let is_ratio = |ratio: f64| ratio > 0.0 && ratio <= 1.0;
        match self.size {
            WindowSize::Calls(calls) => check("calls", &calls, (1..=65_536).contains(&calls), "1 to 65,536 calls")?,
            WindowSize::Time(span) => {
                let is_valid = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&span);
                check("time", &span, is_valid, "1s to 1d")?;
            }
        }
        check("minimum_calls", &self.minimum_calls, COUNT.contains(&self.minimum_calls), "1 to 1,000,000")?;
        check("failure_rate", &self.failure_rate, is_ratio(self.failure_rate), RATIO)?;
        check("slow_call_rate", &self.slow_call_rate, is_ratio(self.slow_call_rate), RATIO)?;
        check("slow_call", &self.slow_call, self.slow_call.is_none_or(is_timeout), "above 0 and at most 1 year")
    }
}

fn is_timeout(timeout: Duration) -> bool {
    timeout > Duration::ZERO && timeout <= YEAR
}

fn check(
    field: &'static str,
    found: &dyn std::fmt::Debug,
    is_valid: bool,
    expected: &'static str,
) -> Result<(), InvalidConfig> {
    if is_valid { Ok(()) } else { Err(InvalidConfig { field, found: format!("{found:?}"), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_field_is_named() {
        let with = |change: fn(&mut BreakerConfig, &mut SlidingWindow)| {
            let (mut config, mut window) = (BreakerConfig::default(), SlidingWindow::default());
            change(&mut config, &mut window);
            BreakerConfig { window: Some(window), ..config }.validate().map_err(|error| error.field)
        };
        assert_eq!(with(|_, _| {}), Ok(()));
        for (field, change) in [
            (
                "failure_threshold",
                (|config, _| config.failure_threshold = 0) as fn(&mut BreakerConfig, &mut SlidingWindow),
            ),
            ("recovery_timeout", |config, _| config.recovery_timeout = Duration::ZERO),
            ("recovery_timeout", |config, _| config.recovery_timeout = Duration::MAX),
            ("recovery_multiplier", |config, _| config.recovery_multiplier = f64::NAN),
            ("recovery_multiplier", |config, _| config.recovery_multiplier = f64::INFINITY),
            ("recovery_multiplier", |config, _| config.recovery_multiplier = 0.5),
            ("max_recovery_timeout", |config, _| config.max_recovery_timeout = Duration::from_secs(29)),
            ("recovery_jitter", |config, _| config.recovery_jitter = -0.1),
            ("recovery_jitter", |config, _| config.recovery_jitter = f64::NAN),
            ("half_open_max_calls", |config, _| config.half_open_max_calls = 0),
            ("half_open_timeout", |config, _| config.half_open_timeout = Some(Duration::ZERO)),
            ("calls", |_, window| window.size = WindowSize::Calls(0)),
            ("calls", |_, window| window.size = WindowSize::Calls(u32::MAX)),
            ("time", |_, window| window.size = WindowSize::Time(Duration::from_millis(10))),
            ("minimum_calls", |_, window| window.minimum_calls = 0),
            ("failure_rate", |_, window| window.failure_rate = 0.0),
            ("failure_rate", |_, window| window.failure_rate = f64::NAN),
            ("slow_call_rate", |_, window| window.slow_call_rate = 1.5),
            ("slow_call", |_, window| window.slow_call = Some(Duration::ZERO)),
        ] {
            assert_eq!(with(change), Err(field));
        }
    }
}
