//! Names of metrics and tags, as Datadog stores them.

use serde::{Serialize, Serializer};

/// Maximum length of a metric's name and of a tag, in characters.
///
/// Source: <https://docs.datadoghq.com/metrics/custom_metrics/> and <https://docs.datadoghq.com/getting_started/tagging/>.
const MAX_CHARS: usize = 200;

/// Appends a metric's name: ASCII letters, digits, underscores and periods.
pub(crate) fn push_metric(text: &mut String, name: &str) {
    let name = match name.strip_prefix("sre.").unwrap_or(name) {
        "slo.error_budget.remaining" => "slo.budget_remaining",
        name => name,
    };
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' });
    text.extend("agent_sre.".chars().chain(name).take(MAX_CHARS));
}

/// Returns a tag, or `None` if the value is empty.
pub(crate) fn tag(key: &str, value: &str) -> Option<String> {
    let mut tags = Tags::default();
    tags.push(key, value);
    (!value.is_empty()).then_some(tags.0)
}

/// Returns a tag as Datadog stores it: in lower case, with underscores in place of what tags cannot have.
pub(crate) fn normalized(tag: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    push_normalized(&mut text, tag);
    text
}

fn push_normalized(text: &mut String, tag: impl Iterator<Item = char>) {
    let is_allowed = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/');
    text.extend(tag.flat_map(char::to_lowercase).map(|c| if is_allowed(&c) { c } else { '_' }).take(MAX_CHARS));
}

/// Tags in one text, separated by commas, which no tag contains.
#[derive(Debug, Default)]
pub(crate) struct Tags(String);

impl Tags {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a tag, unless the value is empty.
    pub(crate) fn push(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.push_chars(key.chars().chain([':']).chain(value.chars()));
        }
    }

    /// Adds a tag that is already as Datadog stores it.
    pub(crate) fn push_stored(&mut self, tag: &str) {
        self.separate();
        self.0.push_str(tag);
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn push_chars(&mut self, tag: impl Iterator<Item = char>) {
        self.separate();
        push_normalized(&mut self.0, tag);
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.split(',').filter(|tag| !tag.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str) -> String {
        let mut text = String::new();
        push_metric(&mut text, name);
        text
    }

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
