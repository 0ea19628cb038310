use std::fmt;
use std::path::PathBuf;

use sre_core::yaml::ConfigError;

/// An error in objectives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The content is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An objective cannot inherit from its parent.
    #[error("{}`inherits_from: {parent}`: {message}", location_prefix(slo, location.as_ref()))]
    Inheritance {
        /// File and line, if the objective was read from a file.
        location: Option<(String, u64)>,
        /// The objective.
        slo: String,
        /// The parent.
        parent: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A file or directory has no objective.
    #[error("{}: found no objective, expected at least one", path.display())]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// A file or directory cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

fn location_prefix(slo: &str, location: Option<&(String, u64)>) -> String {
    location.map_or_else(|| format!("`{slo}`: "), |(file, line)| format!("{file}:{line}: "))
}

/// Every error found in objectives, at least one. The message has a line for each.
#[derive(Debug)]
pub struct SpecErrors(Vec<SpecError>);

impl SpecErrors {
    /// Returns the errors, in the order of files and lines.
    pub fn as_slice(&self) -> &[SpecError] {
        &self.0
    }

    /// Returns the value if there are no errors.
    pub(super) fn check<T>(errors: Vec<SpecError>, value: T) -> Result<T, Self> {
        if errors.is_empty() { Ok(value) } else { Err(Self(errors)) }
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SpecErrors {}

impl From<ConfigError> for SpecErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error.into()])
    }
}

/// The errors of a document that is read to its end nevertheless.
#[derive(Debug, Default)]
pub(super) struct DocumentErrors(Vec<ConfigError>);

impl DocumentErrors {
    /// Returns what was read, or the default after recording the error.
    pub(super) fn keep<T: Default>(&mut self, read: Result<T, ConfigError>) -> T {
        read.unwrap_or_else(|error| {
            self.0.push(error);
            T::default()
        })
    }

    /// Returns what was read, or `None` after recording the error.
    pub(super) fn ok<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|error| self.0.push(error)).ok()
    }

    pub(super) fn extend(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        self.0.extend(errors);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the errors by line.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = SpecError> {
        self.0.sort_by_key(ConfigError::line);
        self.0.into_iter().map(SpecError::from)
    }
}

impl From<ConfigError> for DocumentErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for DocumentErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
