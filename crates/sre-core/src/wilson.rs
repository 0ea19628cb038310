/// The 97.5th percentile of the standard normal distribution: a 95 % interval leaves 2.5 % on each side.
const Z: f64 = 1.959_963_984_540_054;

/// Returns the 95 % Wilson score interval of `good / total`; `None` without samples.
///
/// `total` may be fractional, for the effective size of a weighted sample.
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
///
/// ```
/// let (low, high) = sre_core::wilson_interval(8.0, 10.0).unwrap();
/// assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4);
/// ```
pub fn wilson_interval(good: f64, total: f64) -> Option<(f64, f64)> {
    // Negated, so that NaN counts as no samples.
    if !(total > 0.0 && good >= 0.0) {
        return None;
    }
    let ratio = (good / total).min(1.0);
    let z2_n = Z * Z / total;
    let centre = (ratio + z2_n / 2.0) / (1.0 + z2_n);
    let half = (Z / (1.0 + z2_n)) * (ratio * (1.0 - ratio) / total + z2_n / (4.0 * total)).sqrt();
    // Exactly 0 and 1 apart from rounding errors.
    let low = if ratio == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if ratio == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The ends solve (p − p̂)² = z² p (1 − p) / n, which defines the interval.
        #[test]
        fn the_ends_solve_the_score_equation(good in 0u32..1000, bad in 0u32..1000) {
            prop_assume!(good + bad > 0);
            let (n, ratio) = (f64::from(good + bad), f64::from(good) / f64::from(good + bad));
            let (low, high) = wilson_interval(f64::from(good), n).unwrap();
            prop_assert!(low <= ratio && ratio <= high);
            for end in [low, high] {
                let residual = (end - ratio).powi(2) - Z * Z * end * (1.0 - end) / n;
                prop_assert!(residual.abs() < 1e-12, "{} at {}", residual, end);
            }
        }
    }
}
