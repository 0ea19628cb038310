use std::time::Duration;

/// A retry policy: exponential backoff with jitter. Later versions may have more fields: end with `..Default::default()`.
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
    /// Maximum delay after the first failure. Doubles with each further failure.
    pub first: Duration,
    /// Maximum delay, unless the server requests a longer one.
    pub longest: Duration,
    /// Maximum number of attempts, at least 1.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    /// Returns a policy with 20 attempts and delays from 1 s, doubling up to 5 min: about an hour in total.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300), attempts: 20 }
    }
}

impl RetryPolicy {
    /// Upper bound of `Retry-After`, so that no server can suspend delivery forever.
    pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

    /// Returns the delay after the given number of consecutive failures, or `None` to give up. The delay is between half and all
    /// of the backoff, chosen by `random` in 0..=1, and at least `retry_after`.
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
    fn the_delay_doubles_up_to_its_bound_and_jitter_at_most_halves_it() {
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
    fn retry_after_is_limited_to_an_hour() {
        let asked = Some(Duration::from_secs(1 << 40));
        assert_eq!(RetryPolicy::default().delay(1, asked, 0.5), Some(RetryPolicy::LONGEST_RETRY_AFTER));
    }
}
