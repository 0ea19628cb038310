/// Formats a number with few decimals, the fewer the larger it is, and with three significant digits below 1.
pub fn decimal(number: f64) -> String {
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
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::decimal;

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
}
