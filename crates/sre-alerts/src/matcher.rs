use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sre_core::Alert;

/// A condition on one field of an alert, in the syntax of Alertmanager: `team=search`, `slo!="latency"`,
/// `agent=~"support-.*"`, `team!~"test|dev"`. Regular expressions must match the whole value.
///
/// `agent`, `slo`, `source` and `severity` name fields of the alert, every other name a label. A missing label is empty.
///
/// ```
/// use sre_alerts::Matcher;
/// use sre_core::Alert;
/// let matcher: Matcher = r#"agent=~"support-.*""#.parse().unwrap();
/// assert!(matcher.matches(&Alert { agent_id: "support-eu".into(), ..Alert::new("Budget spent", "") }));
/// ```
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    value: String,
    regex: Option<Regex>,
    negated: bool,
}

/// A text that is not a matcher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("matcher `{found}`: expected {expected}")]
pub struct InvalidMatcher {
    found: String,
    expected: String,
}

impl Matcher {
    /// Creates a matcher for a field that must have exactly this value.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), regex: None, negated: false }
    }

    /// Returns whether the alert meets the condition.
    pub fn matches(&self, alert: &Alert) -> bool {
        let found = field(alert, &self.name);
        let equal = self.regex.as_ref().map_or(found == self.value, |regex| regex.is_match(found));
        equal != self.negated
    }
}

/// Returns the value of a field or label of the alert; empty if there is none of this name.
pub(crate) fn field<'a>(alert: &'a Alert, name: &str) -> &'a str {
    match name {
        "agent" | "agent_id" => &alert.agent_id,
        "slo" | "slo_name" => &alert.slo_name,
        "source" => &alert.source,
        "severity" => alert.severity.as_str(),
        label => alert.labels.get(label).map_or("", String::as_str),
    }
}

impl FromStr for Matcher {
    type Err = InvalidMatcher;

    fn from_str(text: &str) -> Result<Self, InvalidMatcher> {
        let invalid = |expected: String| InvalidMatcher { found: text.to_owned(), expected };
        let at = text
            .find(['=', '!'])
            .ok_or_else(|| invalid("name=value, name!=value, name=~regex or name!~regex".into()))?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let operators = [("=~", true, false), ("!~", true, true), ("!=", false, true), ("=", false, false)];
        let Some((operator, is_regex, negated)) =
            operators.into_iter().find(|(operator, ..)| rest.starts_with(operator))
        else {
            return Err(invalid("one of the operators =, !=, =~ and !~".into()));
        };
        if name.is_empty() {
            return Err(invalid("a name before the operator".into()));
        }
        let value = rest[operator.len()..].trim();
        let unquoted = value.strip_prefix('"').map(|value| value.strip_suffix('"'));
        let Some(value) = unquoted.unwrap_or(Some(value)) else {
            return Err(invalid("a quote at the end of the value".into()));
        };
        let regex = is_regex.then(|| Regex::new(&format!("^(?:{value})$"))).transpose();
        let regex = regex.map_err(|error| invalid(format!("a regular expression ({error})")))?;
        Ok(Self { name: name.to_owned(), value: value.to_owned(), regex, negated })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match (&self.regex, self.negated) {
            (None, false) => "=",
            (None, true) => "!=",
            (Some(_), false) => "=~",
            (Some(_), true) => "!~",
        };
        write!(f, "{}{operator}\"{}\"", self.name, self.value)
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.value, self.regex.is_some(), self.negated)
            == (&other.name, &other.value, other.regex.is_some(), other.negated)
    }
}

/// Returns whether the alert meets every condition.
pub(crate) fn all_match(matchers: &[Matcher], alert: &Alert) -> bool {
    matchers.iter().all(|matcher| matcher.matches(alert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_operators_match_fields_and_labels() {
        let mut alert = Alert { agent_id: "support-eu".into(), slo_name: "answers".into(), ..Alert::new("t", "m") };
        alert.labels.insert("team".into(), "search".into());
        for (matcher, expected) in [
            ("team=search", true),
            ("team=\"search\"", true),
            ("team != search", false),
            ("agent=~support-.*", true),
            ("agent=~support", false),
            ("agent!~support", true),
            ("slo=~\"answers|tools\"", true),
            ("severity=warning", true),
            ("region=", true),
            ("region!=eu", true),
        ] {
            let parsed: Matcher = matcher.parse().unwrap();
            assert_eq!(parsed.matches(&alert), expected, "{matcher}");
            assert_eq!(parsed.to_string().parse::<Matcher>().unwrap(), parsed);
        }
    }

    #[test]
    fn an_invalid_matcher_says_what_was_expected() {
        for (text, expected) in [
            ("team", "expected name=value"),
            ("=x", "a name before"),
            ("team!x", "one of the operators"),
            ("team=\"x", "a quote at the end"),
            ("team=~(", "a regular expression"),
        ] {
            let error = text.parse::<Matcher>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
