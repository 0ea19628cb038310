use std::time::Duration;

/// When a breaker opens, and how it comes back. What is not set has the default.
///
/// ```
/// use std::time::Duration;
/// use sre_cascade::{BreakerConfig, CircuitBreaker, SlidingWindow, WindowSize};
/// let window = SlidingWindow { size: WindowSize::Time(Duration::from_secs(60)), ..SlidingWindow::default() };
/// let config = BreakerConfig { window: Some(window), recovery_multiplier: 2.0, ..BreakerConfig::default() };
/// assert!(CircuitBreaker::with_config("planner", config).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    /// So many failures in a row open it: 5. Not read where a `window` decides.
    pub failure_threshold: u32,
    /// How long it stays open before it lets trial calls through: 30 s.
    pub recovery_timeout: Duration,
    /// By how much longer it stays open each time that the trial calls fail: 1, the same time again.
    pub recovery_multiplier: f64,
    /// The longest that it stays open: 10 min.
    pub max_recovery_timeout: Duration,
    /// The share of that time by which chance makes it shorter or longer, so that many breakers do not try again at once:
    /// 0, exactly that time.
    pub recovery_jitter: f64,
    /// So many trial calls are let through while it is half-open: 1. All must succeed for it to close and the first
    /// failure opens it again; where a `window` decides, its rates judge them once all are in.
    pub half_open_max_calls: u32,
    /// Trial calls that have not ended after this long have failed: no limit.
    pub half_open_timeout: Option<Duration>,
    /// Decides by rates over the last calls instead of failures in a row: no.
    pub window: Option<SlidingWindow>,
    /// Whether a rate limit that the callee names counts as its failure: yes.
    pub count_rate_limits: bool,
    /// Makes the jitter repeatable, for tests.
    pub seed: Option<u64>,
}

/// Opens a breaker by the share of the last calls that failed or were slow. The words and defaults are Resilience4j's.
#[derive(Clone, Debug, PartialEq)]
pub struct SlidingWindow {
    /// What counts as the last calls: 100 calls.
    pub size: WindowSize,
    /// With fewer calls than this, nothing is concluded: 100.
    pub minimum_calls: u32,
    /// The share of failed calls that opens it, above 0 and at most 1: 0.5.
    pub failure_rate: f64,
    /// The share of slow calls that opens it, above 0 and at most 1: 1.
    pub slow_call_rate: f64,
    /// A call that takes longer is slow: none is. At a second or more it is measured to within 10 ms.
    pub slow_call: Option<Duration>,
}

/// How far back a sliding window reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowSize {
    /// So many calls: 1 to 65,536.
    Calls(u32),
    /// So much time, in sixtieths of it: 1 s to 1 day.
    Time(Duration),
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct InvalidConfig {
    /// Which.
    pub field: &'static str,
    /// What it was.
    pub found: String,
    /// What it may be.
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
    /// That every setting can be; the error names the first that cannot.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const TIME: &str = "more than nothing, at most a year";
        let longest = self.max_recovery_timeout;
        check("failure_threshold", &self.failure_threshold, COUNT.contains(&self.failure_threshold), "1 to 1,000,000")?;
        check("recovery_timeout", &self.recovery_timeout, is_wait(self.recovery_timeout), TIME)?;
        check(
            "recovery_multiplier",
            &self.recovery_multiplier,
            (1.0..=1e3).contains(&self.recovery_multiplier),
            "1 to 1,000",
        )?;
        check(
            "max_recovery_timeout",
            &longest,
            is_wait(longest) && longest >= self.recovery_timeout,
            "at least `recovery_timeout`, at most a year",
        )?;
        check(
            "recovery_jitter",
            &self.recovery_jitter,
            (0.0..=1.0).contains(&self.recovery_jitter),
            "a share of 0 to 1",
        )?;
        check(
            "half_open_max_calls",
            &self.half_open_max_calls,
            COUNT.contains(&self.half_open_max_calls),
            "1 to 1,000,000",
        )?;
        check("half_open_timeout", &self.half_open_timeout, self.half_open_timeout.is_none_or(is_wait), TIME)?;
        self.window.as_ref().map_or(Ok(()), SlidingWindow::validate)
    }
}

impl SlidingWindow {
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        const SHARE: &str = "a share above 0 and at most 1";
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        match self.size {
            WindowSize::Calls(calls) => check("calls", &calls, (1..=65_536).contains(&calls), "1 to 65,536 calls")?,
            WindowSize::Time(span) => {
                let fits = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&span);
                check("time", &span, fits, "1s to 1d")?;
            }
        }
        check("minimum_calls", &self.minimum_calls, COUNT.contains(&self.minimum_calls), "1 to 1,000,000")?;
        check("failure_rate", &self.failure_rate, is_share(self.failure_rate), SHARE)?;
        check("slow_call_rate", &self.slow_call_rate, is_share(self.slow_call_rate), SHARE)?;
        check("slow_call", &self.slow_call, self.slow_call.is_none_or(is_wait), "more than nothing, at most a year")
    }
}

fn is_wait(wait: Duration) -> bool {
    wait > Duration::ZERO && wait <= YEAR
}

fn check(
    field: &'static str,
    found: &dyn std::fmt::Debug,
    fits: bool,
    expected: &'static str,
) -> Result<(), InvalidConfig> {
    if fits { Ok(()) } else { Err(InvalidConfig { field, found: format!("{found:?}"), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_and_named() {
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
