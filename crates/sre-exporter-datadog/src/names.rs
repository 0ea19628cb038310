//! Names of metrics and tags, as Datadog stores them.

/// Maximum length of a metric's name and of a tag, in characters.
///
/// Source: <https://docs.datadoghq.com/metrics/custom_metrics/> and <https://docs.datadoghq.com/getting_started/tagging/>.
const MAX_CHARS: usize = 200;

/// Returns a metric's name: ASCII letters, digits, underscores and periods.
pub(crate) fn metric(name: &str) -> String {
    let name = match name.strip_prefix("sre.").unwrap_or(name) {
        "slo.error_budget.remaining" => "slo.budget_remaining",
        name => name,
    };
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' });
    "agent_sre.".chars().chain(name).take(MAX_CHARS).collect()
}

/// Returns a tag, or `None` if the value is empty.
pub(crate) fn tag(key: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| normalized(key.chars().chain([':']).chain(value.chars())))
}

/// Returns a tag as Datadog stores it: in lower case, with underscores in place of what tags cannot have.
pub(crate) fn normalized(tag: impl Iterator<Item = char>) -> String {
    let is_allowed = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/');
    tag.flat_map(char::to_lowercase).map(|c| if is_allowed(&c) { c } else { '_' }).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_datadog_stores_them() {
        for (name, expected) in [
            ("sre.slo.burn_rate", "agent_sre.slo.burn_rate"),
            ("sre.slo.error_budget.remaining", "agent_sre.slo.budget_remaining"),
            ("process.start time/é", "agent_sre.process.start_time__"),
        ] {
            assert_eq!(metric(name), expected);
        }
        assert_eq!(metric(&"x".repeat(300)).len(), 200);
        assert_eq!(tag("slo", "Fast, good Answers").as_deref(), Some("slo:fast__good_answers"));
        assert_eq!(tag("agent", "Größe/1").as_deref(), Some("agent:größe/1"));
        assert_eq!(tag("agent", ""), None);
        assert_eq!(tag("agent", &"ä".repeat(300)).unwrap().chars().count(), 200);
    }
}
