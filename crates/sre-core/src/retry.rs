use std::time::Duration;

/// When to try again what failed, and when to give up: exponential back-off with jitter.
///
/// ```
/// use std::time::Duration;
/// use sre_core::RetryPolicy;
/// let policy = RetryPolicy { attempts: 3, ..Default::default() };
/// assert_eq!(policy.delay(1, None, 1.0), Some(Duration::from_secs(1)));
/// assert_eq!(policy.delay(2, None, 1.0), Some(Duration::from_secs(2)));
/// assert_eq!(policy.delay(2, Some(Duration::from_secs(9)), 0.0), Some(Duration::from_secs(9)));
/// assert_eq!(policy.delay(3, None, 1.0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest wait after the first failure; it doubles with every further one.
    pub first: Duration,
    /// No wait is longer, except where the other side asks for more.
    pub longest: Duration,
    /// How often to try in all, at least 1.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    /// A second, doubling up to five minutes, twenty attempts: gives up after about an hour.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300), attempts: 20 }
    }
}

impl RetryPolicy {
    /// A `Retry-After` beyond this is cut to it: no server should be able to stop a client for good.
    pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

    /// How long to wait after the `failures`-th failure in a row (from 1), or `None` to give up. The wait lies between
    /// half the back-off and all of it, by `random` in 0..=1, and is never shorter than what the other side asked for.
    pub fn delay(&self, failures: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(30);
        let back_off = self.first.saturating_mul(1 << doublings).min(self.longest);
        let jittered = back_off.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        Some(jittered.max(retry_after.unwrap_or_default().min(Self::LONGEST_RETRY_AFTER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_the_jitter_halves_it_at_most() {
        let policy = RetryPolicy::default();
        let waits: Vec<f64> =
            (1..20).map(|failures| policy.delay(failures, None, 1.0).unwrap().as_secs_f64()).collect();
        assert_eq!(waits[..10], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]);
        assert!((3_000.0..4_000.0).contains(&waits.iter().sum::<f64>()), "about an hour");
        assert_eq!(policy.delay(1, None, 0.0), Some(Duration::from_millis(500)));
        assert_eq!(policy.delay(20, None, 1.0), None);
        assert_eq!(policy.delay(u32::MAX, None, 1.0), None);
    }

    #[test]
    fn a_server_cannot_stop_us_for_longer_than_an_hour() {
        let asked = Some(Duration::from_secs(1 << 40));
        assert_eq!(RetryPolicy::default().delay(1, asked, 0.5), Some(RetryPolicy::LONGEST_RETRY_AFTER));
    }
}
