use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::localizer::Localizer;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned, UserMessageFormatter};

use super::ConfigError;

/// A YAML value with its line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// The line, counted from 1.
    pub line: u64,
    /// The value.
    pub kind: Kind,
}

/// The kinds of YAML values.
///
/// Exhaustive: YAML has no others.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A string, number, boolean or null.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in document order.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping with its line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// The line, counted from 1.
    pub line: u64,
    /// The name.
    pub name: String,
}

impl Key {
    /// Creates a key that begins on `line`.
    pub const fn new(line: u64, name: String) -> Self {
        Self { line, name }
    }
}

impl Node {
    /// Creates a value that begins on `line`.
    pub const fn new(line: u64, kind: Kind) -> Self {
        Self { line, kind }
    }

    /// Describes the value for an error message.
    pub fn found(&self) -> String {
        match &self.kind {
            Kind::Scalar(Value::Null) => "nothing".to_owned(),
            Kind::Scalar(Value::String(text)) => text.clone(),
            Kind::Scalar(value) => value.to_string(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }

    /// Returns the field of that name and its key, if this is a mapping that has it.
    pub fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// Returns the node at a dotted path and true, or its nearest ancestor and false.
    pub(super) fn nearest(&self, path: &str) -> (&Self, bool) {
        let (mut node, mut rest) = (self, path);
        // Names may contain dots: the longest matching name is used.
        while let Kind::Map(entries) = &node.kind {
            let within = |name: &str| rest.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('.'));
            let longest =
                entries.iter().filter(|(key, _)| within(&key.name).is_some()).max_by_key(|(key, _)| key.name.len());
            let Some((key, next)) = longest else { break };
            rest = within(&key.name).unwrap_or_default().trim_start_matches('.');
            node = next;
        }
        (node, rest.is_empty())
    }

    /// Returns a key with the name of an earlier one in the same mapping, and that one.
    fn duplicate_field(&self) -> Option<(&Key, &Key)> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::List(items) => items.iter().find_map(Self::duplicate_field),
            Kind::Map(entries) => {
                let mut keys = HashMap::new();
                entries.iter().find_map(|(key, node)| match keys.insert(&*key.name, key) {
                    Some(first) => Some((key, first)),
                    None => node.duplicate_field(),
                })
            }
        }
    }

    /// Returns true for null.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Scalar(Value::Null)
    }

    /// Converts to a JSON value, without lines.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_value())).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((Key { line: key.referenced.line(), name: key.value }, entries.next_value()?));
        }
        Ok(Kind::Map(map))
    }
}

/// Parses the documents of a YAML 1.2 text, skipping empty ones: `y`, `no`, `on` and `007` are text. `file` is its name in error messages.
///
/// # Errors
///
/// Returns an error if the text is not valid YAML.
pub fn documents(text: &str, file: &str) -> Result<Vec<Node>, ConfigError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // Rejected below, with the lines of both.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let formatter = UserMessageFormatter.with_localizer(&WithoutPosition);
        ConfigError::document(file, line, error.without_snippet().render_with_formatter(&formatter))
    })?;
    if let Some((key, first)) = documents.iter().find_map(Node::duplicate_field) {
        let message = format!("`{}`: duplicate field, first set on line {}", key.name, first.line);
        return Err(ConfigError::document(file, key.line, message));
    }
    Ok(documents.into_iter().filter(|node| !node.is_null()).collect())
}

/// Parses the only document of a YAML text. `what` describes the expected document in error messages.
///
/// # Errors
///
/// Returns an error if the text is not valid YAML, or is not exactly one document.
pub fn document(text: &str, file: &str, what: &str) -> Result<Node, ConfigError> {
    let mut documents = documents(text, file)?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document),
        (last, before) => {
            let found = before + usize::from(last.is_some());
            Err(ConfigError::document(file, 1, format!("found {found} documents, expected one with {what}")))
        }
    }
}

/// Leaves positions out of the parser's messages, because [`ConfigError`] begins with file and line.
struct WithoutPosition;

impl Localizer for WithoutPosition {
    fn attach_location<'a>(&self, message: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_key_has_its_line() {
        let nodes = documents("a: 1\nb:\n  - x: true\n    y: 2.5\n---\nc: text\n", "f").unwrap();
        assert_eq!(nodes.len(), 2);
        let Kind::Map(entries) = &nodes[0].kind else { panic!("a mapping") };
        assert_eq!((entries[0].0.line, entries[0].1.line, entries[1].0.line), (1, 1, 2));
        let Kind::List(items) = &entries[1].1.kind else { panic!("a list") };
        let Kind::Map(inner) = &items[0].kind else { panic!("a mapping") };
        assert_eq!((inner[0].1.line, inner[1].0.line, inner[1].1.line), (3, 4, 4));
        assert_eq!(nodes[1].to_value(), serde_json::json!({"c": "text"}));
    }

    #[test]
    fn an_error_says_once_where_it_is_and_does_not_mention_the_parser() {
        for (text, expected) in [
            ("a: [1\nb: 2", "f:2: illegal placement of ':' indicator"),
            ("a: [1", "f:1: unclosed bracket '['"),
            ("a: 1\nb: 2\n\na: 3", "f:4: `a`: duplicate field, first set on line 1"),
            ("x:\n  - {a: 1,\n    a: 2}", "f:3: `a`: duplicate field, first set on line 2"),
            ("a: 1\n'a': 2", "f:2: `a`: duplicate field, first set on line 1"),
            ("a: 1\nb: *unknown", "f:2: reference to unknown value"),
            ("a: .inf", "f:1: value `.inf` is not a finite number"),
        ] {
            assert_eq!(documents(text, "f").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_field_replaces_the_one_that_it_merges() {
        let node = document("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {x: 3, <<: *a}", "f", "a mapping").unwrap();
        let expected = serde_json::json!({"x": 3, "y": 2});
        let value = node.to_value();
        assert_eq!((&value["b"], &value["c"]), (&expected, &expected));
    }

    #[test]
    fn text_stays_text() {
        let node = document("[true, False, y, no, on, Off, YES, 007, 1_000]", "f", "a list").unwrap();
        let expected = serde_json::json!([true, false, "y", "no", "on", "Off", "YES", "007", "1_000"]);
        assert_eq!(node.to_value(), expected);
    }
}
