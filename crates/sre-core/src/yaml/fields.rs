use std::time::Duration;

use serde_json::Value;

use super::{ConfigError, Key, Kind, Node};
use crate::{Secret, Usd, Window};

/// Returns the value of an environment variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The fields of a mapping, which are taken by name. Fields that are not taken are unknown.
pub struct Fields<'a> {
    file: &'a str,
    path: &'a str,
    line: u64,
    environment: Option<&'a Environment<'a>>,
    /// All fields with their keys.
    pub entries: Vec<(&'a Key, &'a Node)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Returns the fields of `node`. Error messages prefix field names with `path`, such as `indicators[0].`.
    ///
    /// # Errors
    ///
    /// Returns an error if `node` is not a mapping.
    pub fn new(node: &'a Node, file: &'a str, path: &'a str) -> Result<Self, ConfigError> {
        let Kind::Map(entries) = &node.kind else {
            let place = if path.is_empty() { "the document" } else { path.trim_end_matches('.') };
            let message = format!("{place}: found {}, expected a mapping", node.found());
            return Err(ConfigError::document(file, node.line, message));
        };
        let entries = entries.iter().map(|(key, node)| (key, node)).collect();
        Ok(Self { file, path, line: node.line, environment: None, entries, known: Vec::new() })
    }

    /// Replaces each `${NAME}` in texts and secrets by the environment variable of that name.
    #[must_use]
    pub fn with_environment(mut self, environment: &'a Environment<'a>) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Takes the value of a field, if present.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| *node).filter(|node| !node.is_null())
    }

    /// Takes a field and parses it. If `parse` returns `None`, the error names what was `expected`.
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

    /// Takes a string. Integers and booleans are converted; a decimal fraction must be in quotes, since 1.10 would become 1.1.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let text = self.read(name, "a text, with quotes around a decimal fraction", |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        })?;
        text.map(|text| self.expand(name, &text)).transpose()
    }

    /// Takes a string that no error shows.
    pub fn secret(&mut self, name: &'static str) -> Result<Option<Secret>, ConfigError> {
        let Some(node) = self.take(name) else { return Ok(None) };
        match &node.kind {
            Kind::Scalar(Value::String(text)) => Ok(Some(Secret::new(self.expand(name, text)?))),
            _ => Err(self.missing(name, "a text")),
        }
    }

    /// Takes a string that no error shows, and that must not be missing or empty.
    pub fn required_secret(&mut self, name: &'static str) -> Result<Secret, ConfigError> {
        let secret = self.secret(name)?.filter(|secret| !secret.expose().is_empty());
        secret.ok_or_else(|| self.missing(name, "the vendor's key, or `${NAME}` of an environment variable"))
    }

    /// Takes a mapping of names to strings that no error shows; empty if it is missing.
    pub fn secrets(&mut self, name: &'static str) -> Result<Vec<(String, Secret)>, ConfigError> {
        let Some(node) = self.take(name) else { return Ok(Vec::new()) };
        let Kind::Map(entries) = &node.kind else { return Err(self.missing(name, "a mapping of names to texts")) };
        let secret = |(key, node): &(Key, Node)| match &node.kind {
            Kind::Scalar(Value::String(text)) => Ok((key.name.clone(), Secret::new(self.expand(name, text)?))),
            _ => Err(self.missing(&format!("{name}.{}", key.name), "a text")),
        };
        entries.iter().map(secret).collect()
    }

    /// Takes a list of strings; empty if it is missing.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        let Some(node) = self.take(name) else { return Ok(Vec::new()) };
        let text = |item: &Node| match &item.kind {
            Kind::Scalar(Value::String(text)) => self.expand(name, text),
            _ => Err(self.error(name, item, "a list of texts")),
        };
        self.items(name, node)?.iter().map(text).collect()
    }

    /// Returns an error for a field that is missing, or whose value may be secret.
    pub fn missing(&self, name: &str, expected: &str) -> ConfigError {
        let line = self.entries.iter().find(|(key, _)| key.name == name).map_or(self.line, |(key, _)| key.line);
        ConfigError::document(self.file, line, format!("`{}{name}`: expected {expected}", self.path))
    }

    /// Returns an error for the mapping as a whole.
    pub fn invalid(&self, message: impl std::fmt::Display) -> ConfigError {
        let place = self.path.trim_end_matches('.');
        ConfigError::document(self.file, self.line, format!("{place}: {message}"))
    }

    fn expand(&self, name: &str, text: &str) -> Result<String, ConfigError> {
        let Some(environment) = self.environment else { return Ok(text.to_owned()) };
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((variable, after)) = after.split_once('}') else { break };
            let value = environment(variable)
                .ok_or_else(|| self.missing(name, &format!("the environment variable {variable} to be set")))?;
            expanded.push_str(before);
            expanded.push_str(&value);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// Takes a number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, ConfigError> {
        self.read(name, "a number", Value::as_f64)
    }

    /// Takes an integer of at least 0.
    pub fn count<N: TryFrom<u64>>(&mut self, name: &'static str) -> Result<Option<N>, ConfigError> {
        self.read(name, "a whole number", |value| N::try_from(value.as_u64()?).ok())
    }

    /// Takes a boolean.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// Takes an amount in US dollars.
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

    /// Takes a duration.
    pub fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, ConfigError> {
        Ok(self.window(name)?.map(Window::duration))
    }

    /// Takes a window.
    pub fn window(&mut self, name: &'static str) -> Result<Option<Window>, ConfigError> {
        self.read(name, "a duration such as 5m, 6h or 30d", |value| value.as_str()?.parse().ok())
    }

    /// Returns the items of a list.
    pub fn items(&self, name: &'static str, node: &'a Node) -> Result<&'a [Node], ConfigError> {
        match &node.kind {
            Kind::List(items) => Ok(items),
            _ => Err(self.error(name, node, "a list")),
        }
    }

    /// Returns the error for a field with an invalid value.
    pub fn error(&self, name: &str, node: &Node, expected: &str) -> ConfigError {
        ConfigError::Field {
            file: self.file.to_owned(),
            line: node.line,
            field: format!("{}{name}", self.path),
            found: node.found(),
            expected: expected.to_owned(),
        }
    }

    /// Returns an error for each field that has not been taken.
    pub fn unknown(&self) -> impl Iterator<Item = ConfigError> {
        let not_taken = self.entries.iter().filter(|(key, _)| !self.known.contains(&key.name.as_str()));
        not_taken.map(|(key, _)| ConfigError::UnknownField {
            file: self.file.to_owned(),
            line: key.line,
            field: format!("{}{}", self.path, key.name),
            expected: self.known.join(", "),
        })
    }

    /// Checks that every field has been taken.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first unknown field.
    pub fn finish(&self) -> Result<(), ConfigError> {
        self.unknown().next().map_or(Ok(()), Err)
    }
}
