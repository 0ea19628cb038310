//! Reads YAML settings with errors that name file, line, field and expected value. Requires feature `yaml`.

mod fields;
mod node;

pub use fields::{Environment, Fields};
pub use node::{Key, Kind, Node, document, documents};

/// An error in a settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field has an invalid value.
    #[error("{file}:{line}: `{field}: {found}`: expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// The path of the field.
        field: String,
        /// The value found.
        found: String,
        /// The valid values.
        expected: String,
    },
    /// A field is unknown.
    #[error("{file}:{line}: `{field}`: unknown field, expected one of {expected}")]
    UnknownField {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// The path of the field.
        field: String,
        /// The known fields.
        expected: String,
    },
    /// A document, or a part of it, is invalid.
    #[error("{file}:{line}: {message}")]
    Document {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// What was found and what was expected.
        message: String,
    },
}

/// Overwrites a setting if a value is given.
pub fn set<T>(setting: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *setting = written;
    }
}

impl ConfigError {
    /// Creates the error for an invalid value at the path `field` below `node`. It names the line of the field, or of its nearest
    /// ancestor that is present.
    pub fn invalid(file: &str, node: &Node, path: &str, field: &str, found: String, expected: &str) -> Self {
        let (node, is_there) = node.nearest(field);
        Self::Field {
            file: file.to_owned(),
            line: node.line,
            field: format!("{path}{field}"),
            found: if is_there { node.found() } else { found },
            expected: expected.to_owned(),
        }
    }

    /// Returns the line, counted from 1.
    pub fn line(&self) -> u64 {
        match self {
            Self::Field { line, .. } | Self::UnknownField { line, .. } | Self::Document { line, .. } => *line,
        }
    }

    /// Replaces the value, or the name of an unknown field, with `***`: it may be a secret.
    pub fn masked(mut self) -> Self {
        const MASK: &str = "***";
        match &mut self {
            Self::Field { found, .. } => MASK.clone_into(found),
            Self::UnknownField { field, .. } => {
                let name = field.rfind('.').map_or(0, |dot| dot + 1);
                field.replace_range(name.., MASK);
            }
            Self::Document { .. } => {}
        }
        self
    }

    /// Creates the error for an invalid document, or a part of it.
    pub fn document(file: &str, line: u64, message: impl Into<String>) -> Self {
        Self::Document { file: file.to_owned(), line, message: message.into() }
    }
}
