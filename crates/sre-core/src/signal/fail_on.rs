use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidName, Status};

/// The status from which a check fails or a deploy is refused.
///
/// ```
/// use sre_core::{FailOn, Status};
/// assert!(FailOn::default().is_reached_by(Status::Exhausted));
/// assert!(!FailOn::Exhausted.is_reached_by(Status::Critical));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "The status from which a deploy is refused."))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailOn {
    /// Warning or worse.
    Warning,
    /// Critical or worse.
    #[default]
    Critical,
    /// Exhausted.
    Exhausted,
    /// No status.
    Never,
}

impl FailOn {
    /// Every level, from the strictest.
    pub const ALL: [Self; 4] = [Self::Warning, Self::Critical, Self::Exhausted, Self::Never];

    /// Returns the lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Exhausted => "exhausted",
            Self::Never => "never",
        }
    }

    /// Returns whether an objective of that status is at this level or worse.
    pub fn is_reached_by(self, status: Status) -> bool {
        match self {
            Self::Warning => status >= Status::Warning,
            Self::Critical => status >= Status::Critical,
            Self::Exhausted => status >= Status::Exhausted,
            Self::Never => false,
        }
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FailOn {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| InvalidName::new(text, Self::ALL.map(Self::as_str)))
    }
}
