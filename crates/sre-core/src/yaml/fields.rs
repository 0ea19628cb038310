use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{ConfigError, Key, Kind, Node};
use crate::{Usd, Window};

/// The fields of a mapping, taken by name; what nobody took is unknown.
pub struct Fields<'a> {
    file: &'a str,
    path: &'a str,
    /// Every field, with the key that names it.
    pub entries: Vec<(&'a Key, &'a Node)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, whose names errors put after `path`, such as `indicators[0].`.
    pub fn new(node: &'a Node, file: &'a str, path: &'a str) -> Result<Self, ConfigError> {
        let Kind::Map(entries) = &node.kind else {
            let place = if path.is_empty() { "the document" } else { path.trim_end_matches('.') };
            let message = format!("{place}: found {}, expected a mapping", node.found());
            return Err(ConfigError::document(file, node.line, message));
        };
        Ok(Self { file, path, entries: entries.iter().map(|(key, node)| (key, node)).collect(), known: Vec::new() })
    }

    /// The value of a field, where there is one.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| *node).filter(|node| !node.is_null())
    }

    /// A field that `parse` understands; where it does not, the error says what was `expected`.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(node) = self.take(name) else { return Ok(None) };
        let parsed = match &node.kind {
            Kind::Scalar(value) => parse(value),
            _ => None,
        };
        parsed.map(Some).ok_or_else(|| self.error(name, node, expected))
    }

    /// A text; numbers, true and false are taken as one.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ConfigError> {
        self.read(name, "a text", |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        })
    }

    /// A number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, ConfigError> {
        self.read(name, "a number", Value::as_f64)
    }

    /// A whole number.
    pub fn count<N: TryFrom<u64>>(&mut self, name: &'static str) -> Result<Option<N>, ConfigError> {
        self.read(name, "a whole number", |value| N::try_from(value.as_u64()?).ok())
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// Money.
    pub fn usd(&mut self, name: &'static str) -> Result<Option<Usd>, ConfigError> {
        self.read(name, "an amount of dollars such as 0.25, at least 0", |value| {
            let amount = match value {
                Value::String(text) => text.parse().ok()?,
                Value::Number(number) => Usd::try_from(number.as_f64()?).ok()?,
                _ => return None,
            };
            Some(amount).filter(|amount| !amount.is_negative())
        })
    }

    /// A duration, of days and less.
    pub fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, ConfigError> {
        Ok(self.window(name)?.map(Window::duration))
    }

    /// A window.
    pub fn window(&mut self, name: &'static str) -> Result<Option<Window>, ConfigError> {
        self.read(name, "a duration such as 5m, 6h or 30d", |value| value.as_str()?.parse().ok())
    }

    /// The items of a list.
    pub fn items(&self, name: &'static str, node: &'a Node) -> Result<&'a [Node], ConfigError> {
        match &node.kind {
            Kind::List(items) => Ok(items),
            _ => Err(self.error(name, node, "a list")),
        }
    }

    /// The field `labels`: texts by name.
    pub fn labels(&mut self) -> Result<BTreeMap<String, String>, ConfigError> {
        let Some(node) = self.take("labels") else { return Ok(BTreeMap::new()) };
        let Kind::Map(entries) = &node.kind else {
            return Err(self.error("labels", node, "a mapping of names to texts"));
        };
        let text = |(key, node): &(Key, Node)| match &node.kind {
            Kind::Scalar(_) if node.is_null() => Ok((key.name.clone(), String::new())),
            Kind::Scalar(_) => Ok((key.name.clone(), node.found())),
            _ => Err(self.error("labels", node, "a text")),
        };
        entries.iter().map(text).collect()
    }

    /// That a field is not what was expected.
    pub fn error(&self, name: &str, node: &Node, expected: &str) -> ConfigError {
        ConfigError::Field {
            file: self.file.to_owned(),
            line: node.line,
            field: format!("{}{name}", self.path),
            found: node.found(),
            expected: expected.to_owned(),
        }
    }

    /// Fails where a field is left that nobody took.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.entries.iter().find(|(key, _)| !self.known.contains(&key.name.as_str())) {
            Some((key, _)) => Err(ConfigError::UnknownField {
                file: self.file.to_owned(),
                line: key.line,
                field: format!("{}{}", self.path, key.name),
                expected: self.known.join(", "),
            }),
            None => Ok(()),
        }
    }
}
