//! Tests of evidence, for engines that raise an alarm only if chance is no explanation.

use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::beta::checked_beta_reg;

use crate::private::is_rounding;

/// Returns the probability of at least `bad` bad events among `total`, each of which is bad with probability `ratio`: the upper
/// tail of the binomial distribution, P(X ≥ bad) = I_ratio(bad, total − bad + 1).
///
/// ```
/// // Five of five bad, where a tenth may be: 0.1⁵.
/// assert!((sre_core::stats::binomial_tail(5, 5, 0.1) - 1e-5).abs() < 1e-15);
/// ```
pub fn binomial_tail(bad: u64, total: u64, ratio: f64) -> f64 {
    if bad == 0 || ratio >= 1.0 {
        return 1.0;
    }
    if bad > total || ratio.is_nan() || ratio <= 0.0 {
        return 0.0;
    }
    // Defined for every argument that is left.
    checked_beta_reg(bad as f64, (total - bad) as f64 + 1.0, ratio).unwrap_or(1.0)
}

/// Returns the probability of a mean of at least `mean` over `samples` samples with the standard deviation `deviation`, if the
/// true mean is `target`: one-sided Student's t test. 1 below two samples, and for a mean that only rounding sets above the target.
///
/// ```
/// // t = (1.5 − 1) / (0.5 / √10) ≈ 3.16 with nine degrees of freedom.
/// assert!((sre_core::stats::mean_tail(1.5, 0.5, 10, 1.0) - 0.005_8).abs() < 1e-4);
/// ```
pub fn mean_tail(mean: f64, deviation: f64, samples: u64, target: f64) -> f64 {
    if samples < 2 || !mean.is_finite() || !deviation.is_finite() {
        return 1.0;
    }
    if deviation <= 0.0 || is_rounding(mean, target) {
        return if mean > target && !is_rounding(mean, target) { 0.0 } else { 1.0 };
    }
    let t = (mean - target) / (deviation / (samples as f64).sqrt());
    StudentsT::new(0.0, 1.0, (samples - 1) as f64).map_or(1.0, |distribution| distribution.sf(t))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sums the terms of the distribution, each from the one before.
    fn summed(bad: u64, total: u64, ratio: f64) -> f64 {
        let mut term = (1.0 - ratio).powi(total as i32);
        let mut below = 0.0;
        for k in 0..bad {
            below += term;
            term *= (total - k) as f64 / (k + 1) as f64 * ratio / (1.0 - ratio);
        }
        let mut tail = 0.0;
        for k in bad..=total {
            tail += term;
            term *= (total - k) as f64 / (k + 1) as f64 * ratio / (1.0 - ratio);
        }
        // The smaller sum is the more exact one.
        if below < 0.5 { 1.0 - below } else { tail }
    }

    proptest! {
        #[test]
        fn the_tail_is_the_sum_of_its_terms(total in 1u64..300, share in 0.0f64..=1.0, ratio in 0.001f64..0.5) {
            let bad = (total as f64 * share).round() as u64;
            let (found, expected) = (binomial_tail(bad, total, ratio), summed(bad, total, ratio));
            prop_assert!((found - expected).abs() < 1e-10, "{} of {} at {}: {} {}", bad, total, ratio, found, expected);
        }
    }

    #[test]
    fn the_ends_of_the_tail_are_exact() {
        assert_eq!((binomial_tail(0, 5, 0.1), binomial_tail(6, 5, 0.1)), (1.0, 0.0));
        assert_eq!((binomial_tail(1, 5, 0.0), binomial_tail(1, 5, 1.0)), (0.0, 1.0));
        assert_eq!(binomial_tail(1, 5, f64::NAN), 0.0);
        assert!(binomial_tail(1_000_000, 1_000_000_000, 0.001) > 0.49, "far from underflow");
    }

    #[test]
    fn a_mean_that_only_rounding_sets_above_the_target_is_no_evidence() {
        for target in [0.01, 0.02, 0.0025, 0.1, 0.2, 0.3, 0.9, 1e9] {
            for samples in 2..200_u32 {
                let mean = (0..samples).map(|_| target).sum::<f64>() / f64::from(samples);
                assert_eq!(mean_tail(mean, 0.0, samples.into(), target), 1.0, "{samples} of {target}");
                assert_eq!(mean_tail(mean, 1e-18, samples.into(), target), 1.0, "{samples} of {target}");
            }
            assert_eq!(mean_tail(target * 1.001, 0.0, 10, target), 0.0);
        }
    }

    /// Student's table: 2.821 is exceeded by 1 % of the values with nine degrees of freedom.
    #[test]
    fn the_t_test_agrees_with_the_table() {
        let deviation = 10_f64.sqrt();
        assert!((mean_tail(2.821, deviation, 10, 0.0) - 0.01).abs() < 1e-5);
        assert!((mean_tail(-2.821, deviation, 10, 0.0) - 0.99).abs() < 1e-5);
        assert_eq!((mean_tail(5.0, 0.0, 10, 1.0), mean_tail(5.0, 1.0, 1, 1.0)), (0.0, 1.0));
    }
}
