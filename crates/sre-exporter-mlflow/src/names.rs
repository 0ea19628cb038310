/// The maximum length of a name that becomes part of a key, in characters. MLflow allows 250 for a whole key.
const NAME_CHARS: usize = 100;

/// The maximum length of a param's or tag's value, in characters. MLflow allows 6,000, older versions 500.
const VALUE_CHARS: usize = 500;

/// Returns a name as a part of a key of a metric, param or tag. MLflow allows letters, digits, `_`, `-`, `.` and spaces,
/// and reads `/` as a separator of groups.
///
/// Source: `mlflow/utils/validation.py`.
pub(crate) fn key_part(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    let part: String = name.chars().take(NAME_CHARS).map(|c| if is_allowed(c) { c } else { '_' }).collect();
    // A key must be the same after its normalization as a path.
    if matches!(part.as_str(), "" | "." | "..") { "_".to_owned() } else { part }
}

/// Returns a text as a value of a param or tag.
pub(crate) fn value(text: &str) -> String {
    text.chars().take(VALUE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_only_what_mlflow_allows() {
        for (name, part) in
            [("latency p95", "latency p95"), ("a/b:ü\u{0}", "a_b___"), ("", "_"), ("..", "_"), ("...", "...")]
        {
            assert_eq!(key_part(name), part);
        }
        assert_eq!(key_part(&"x".repeat(1_000)).len(), NAME_CHARS);
        assert_eq!(value(&"ü".repeat(1_000)).chars().count(), VALUE_CHARS);
    }
}
