use smallvec::SmallVec;

use crate::InvalidMetric;

/// The name and the value of a label.
pub(crate) type Label<'a> = (&'a str, &'a str);

/// Renders labels as between braces, sorted by name, so that equal labels in any order are the same series.
///
/// A label without a value is left out: Prometheus takes it for one that is absent.
pub(crate) fn render<'a>(metric: &str, labels: impl Iterator<Item = Label<'a>>) -> Result<String, InvalidMetric> {
    let mut rendered = String::new();
    let mut labels: SmallVec<[_; 8]> = labels.collect();
    labels.sort_unstable_by_key(|(label, _)| *label);
    render_into(&mut rendered, metric, &labels)?;
    Ok(rendered)
}

/// Renders sorted labels as [`render`] does, into `rendered`, which is empty.
pub(crate) fn render_into(rendered: &mut String, metric: &str, labels: &[Label<'_>]) -> Result<(), InvalidMetric> {
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(InvalidMetric::new(metric, format!("two labels `{}`", pair[0].0), "unique label names"));
    }
    for &(label, value) in labels {
        if !is_name(label, false) || label.starts_with("__") {
            let expected = "letters, digits and `_`, not starting with a digit or `__`";
            return Err(InvalidMetric::new(metric, format!("the label `{label}`"), expected));
        }
        if value.is_empty() {
            continue;
        }
        if !rendered.is_empty() {
            rendered.push(',');
        }
        rendered.push_str(label);
        rendered.push_str("=\"");
        let mut rest = value;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
            let (plain, special) = rest.split_at(at);
            rendered.push_str(plain);
            rendered.push_str(match special.as_bytes()[0] {
                b'\\' => "\\\\",
                b'"' => "\\\"",
                _ => "\\n",
            });
            rest = &special[1..];
        }
        rendered.push_str(rest);
        rendered.push('"');
    }
    Ok(())
}

/// Returns whether `text` is a name of a metric, which may have colons, or of a label.
pub(crate) fn is_name(text: &str, colons: bool) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    text.bytes().all(allowed) && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}
