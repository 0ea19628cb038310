use agent_sre::Unit;
pub(crate) use agent_sre::private::decimal;
use agent_sre::private::{apart, decimal_with, without_zeros};

/// Stands for a missing value.
pub(crate) const NO_VALUE: &str = "–";

/// Formats a ratio as a percentage, with up to two decimals.
pub(crate) fn percent(ratio: f64) -> String {
    percent_with(ratio, 0)
}

fn percent_with(ratio: f64, more: usize) -> String {
    let text = without_zeros(format!("{:.*}", 2 + more, ratio * 100.0));
    format!("{} %", if text == "-0" { "0" } else { text.as_str() })
}

/// Formats a value and the target beside it with their unit.
pub(crate) fn value_and_target(value: f64, target: f64, unit: Unit) -> [String; 2] {
    apart(value, target, |number, more| with_unit(number, unit, more))
}

/// Formats a value with its unit, with `more` decimals than usual.
pub(crate) fn with_unit(value: f64, unit: Unit, more: usize) -> String {
    match unit {
        Unit::Ratio | Unit::Difference => percent_with(value, more),
        Unit::Milliseconds if value >= 10_000.0 => format!("{:.*} s", 1 + more, value / 1e3),
        Unit::Milliseconds => format!("{} ms", decimal_with(value, more)),
        Unit::Usd => format!("${}", decimal_with(value, more)),
        _ => decimal_with(value, more),
    }
}

/// Formats a duration in its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds >= 3_650.0 * 86_400.0 {
        return "more than ten years".to_owned();
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Formats a number with thousands separators.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// Formats a number of items, with the noun in the singular or plural.
pub(crate) fn count_of(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Returns a bar of `width` cells, filled to `ratio`.
pub(crate) fn bar(ratio: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (ratio.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let partial = EIGHTHS[eighths % 8];
    let empty = width - eighths / 8 - usize::from(!partial.is_empty());
    format!("{}{partial}{}", "█".repeat(eighths / 8), "░".repeat(empty))
}

/// Returns a sparkline: one bar per value, a space for a missing one. The highest bar stands for `scale` or the largest value.
pub(crate) fn sparkline(values: &[Option<f64>], scale: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().flatten().copied().fold(scale, f64::max);
    let bar = |value: f64| BARS[((value / highest * 7.0).ceil() as usize).min(7)];
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_humans() {
        for (found, expected) in [
            (percent(0.945), "94.5 %"),
            (percent(1.0), "100 %"),
            (percent(0.999_51), "99.95 %"),
            (percent(-0.1), "-10 %"),
            (with_unit(1234.5, Unit::Milliseconds, 0), "1234 ms"),
            (with_unit(3.25, Unit::Milliseconds, 0), "3.25 ms"),
            (with_unit(0.000_42, Unit::Usd, 0), "$0.00042"),
            (with_unit(0.15, Unit::Difference, 0), "15 %"),
            (value_and_target(0.999_96, 0.999_99, Unit::Ratio).join(" ≥ "), "99.996 % ≥ 99.999 %"),
            (value_and_target(12_040.0, 12_000.0, Unit::Milliseconds).join(" ≤ "), "12.04 s ≤ 12.00 s"),
            (decimal(f64::INFINITY), "∞"),
            (decimal(10.04), "10"),
            (duration(59.0), "59 s"),
            (duration(90.0 * 60.0), "1 h 30 min"),
            (duration(2.5 * 86_400.0), "2 d 12 h"),
            (count(1_234_567), "1,234,567"),
            (count_of(1, "task"), "1 task"),
            (bar(0.5, 4), "██░░"),
            (bar(2.0, 4), "████"),
            (bar(0.03, 4), "▏░░░"),
            (sparkline(&[Some(0.0), None, Some(0.5), Some(1.0)], 1.0), "▁ ▅█"),
        ] {
            assert_eq!(found, expected);
        }
    }
}
