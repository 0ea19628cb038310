//! What people write by hand, read so that every error says where it is and what to mend. Behind feature `yaml`.

mod fields;
mod node;

pub use fields::Fields;
pub use node::{Key, Kind, Node, document, documents};

/// A file that cannot be used, where, and what to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field with a value that it cannot have.
    #[error("{file}:{line}: `{field}: {found}`: expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The field, with its path.
        field: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A field that does not exist.
    #[error("{file}:{line}: `{field}`: unknown field, expected one of {expected}")]
    UnknownField {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The field, with its path.
        field: String,
        /// The fields that exist.
        expected: String,
    },
    /// Something that is wrong with the whole document.
    #[error("{file}:{line}: {message}")]
    Document {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what was expected.
        message: String,
    },
}

/// Takes what is written instead of what a setting was.
pub fn set<T>(setting: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *setting = written;
    }
}

impl ConfigError {
    /// That a setting somewhere below `node` cannot be, as whoever knows its meaning found. `field` is its path from there; the
    /// error names the line where it stands, or the next thing above it that does.
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

    /// The same without what stands there, which may be a secret.
    pub fn masked(mut self) -> Self {
        if let Self::Field { found, .. } = &mut self {
            "***".clone_into(found);
        }
        self
    }

    /// Something that is wrong with a whole document, or a part of it.
    pub fn document(file: &str, line: u64, message: impl Into<String>) -> Self {
        Self::Document { file: file.to_owned(), line, message: message.into() }
    }
}
