use agent_sre::Unit;
pub(crate) use agent_sre::private::decimal;

/// Stands for a missing value.
pub(crate) const NO_VALUE: &str = "–";

/// Formats a ratio as a percentage, with up to two decimals.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let text = format!("{percent:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} %", if text == "-0" { "0" } else { text })
}

/// Formats a value with its unit.
pub(crate) fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => percent(value),
        Unit::Milliseconds if value >= 10_000.0 => format!("{:.1} s", value / 1e3),
        Unit::Milliseconds if value >= 100.0 => format!("{value:.0} ms"),
        Unit::Milliseconds => format!("{} ms", decimal(value)),
        Unit::Usd => format!("${}", decimal(value)),
        _ => decimal(value),
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
            (value(1234.5, Unit::Milliseconds), "1234 ms"),
            (value(3.25, Unit::Milliseconds), "3.25 ms"),
            (value(0.000_42, Unit::Usd), "$0.00042"),
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
