use std::fmt::Write;

use crate::InvalidMetric;

/// Renders labels as between braces, sorted by name, so that equal labels in any order are the same series.
///
/// A label without a value is left out: Prometheus takes it for one that is absent.
pub(crate) fn render<'a>(
    metric: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<String, InvalidMetric> {
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable_by_key(|(label, _)| *label);
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(InvalidMetric::new(metric, format!("two labels `{}`", pair[0].0), "unique label names"));
    }
    let mut rendered = String::new();
    for (label, value) in labels {
        if !is_name(label, false) || label.starts_with("__") {
            let expected = "letters, digits and `_`, not starting with a digit or `__`";
            return Err(InvalidMetric::new(metric, format!("the label `{label}`"), expected));
        }
        if value.is_empty() {
            continue;
        }
        let comma = if rendered.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(rendered, "{comma}{label}=\"");
        for letter in value.chars() {
            match letter {
                '\\' => rendered.push_str("\\\\"),
                '"' => rendered.push_str("\\\""),
                '\n' => rendered.push_str("\\n"),
                letter => rendered.push(letter),
            }
        }
        rendered.push('"');
    }
    Ok(rendered)
}

/// Returns whether `text` is a name of a metric, which may have colons, or of a label.
pub(crate) fn is_name(text: &str, colons: bool) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (colons && letter == ':');
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with(|letter: char| letter.is_ascii_digit())
}
