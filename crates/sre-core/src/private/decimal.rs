/// Formats a number with few decimals, the fewer the larger it is, and with three significant digits below 1.
pub fn decimal(number: f64) -> String {
    decimal_with(number, 0)
}

/// Formats a number like [`decimal`], with `more` decimals.
pub fn decimal_with(number: f64, more: usize) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "∞" } else { "-∞" }.to_owned();
    }
    let decimals = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        size if size > 0.0 => (2.0 - size.log10().floor()).min(15.0) as usize,
        _ => 0,
    };
    without_zeros(format!("{number:.*}", decimals + more))
}

/// Removes the zeros at the end of a decimal fraction.
pub fn without_zeros(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Formats a value and the target beside it, with as many more decimals as tell them apart: 0.504 is not "at most 0.5". `format`
/// takes a number and how many decimals it gets more than usual.
pub fn apart(value: f64, target: f64, format: impl Fn(f64, usize) -> String) -> [String; 2] {
    let texts = |more| [value, target].map(|number| format(number, more));
    let is_apart = |[value, target]: &[String; 2]| value != target;
    let needed = if is_rounding(value, target) { None } else { (0..10).map(texts).find(is_apart) };
    needed.unwrap_or_else(|| texts(0))
}

/// Returns whether two numbers differ by no more than the rounding of a sum or mean: 17 times 0.1 has a mean of 0.10000000000000002.
pub fn is_rounding(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::{apart, decimal, decimal_with};

    #[test]
    fn small_numbers_keep_their_digits() {
        for (number, text) in [
            (1_234.5, "1234"),
            (14.44, "14.4"),
            (2.0, "2"),
            (0.125, "0.12"),
            (0.000_038_64, "0.0000386"),
            (-0.05, "-0.05"),
            (0.0, "0"),
            (f64::INFINITY, "∞"),
        ] {
            assert_eq!(decimal(number), text);
        }
    }

    #[test]
    fn a_value_and_its_target_are_told_apart() {
        for (value, target, texts) in [
            (0.504, 0.5, ["0.504", "0.5"]),
            (2_000.3, 2_000.0, ["2000.3", "2000"]),
            (1.0 / 3.0, 0.5, ["0.33", "0.5"]),
            (0.1 + 1e-17, 0.1, ["0.1", "0.1"]),
            (f64::INFINITY, 0.5, ["∞", "0.5"]),
        ] {
            assert_eq!(apart(value, target, decimal_with), texts);
        }
    }
}
