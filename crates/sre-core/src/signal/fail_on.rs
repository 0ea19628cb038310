use serde::{Deserialize, Serialize};

use super::Status;
use crate::names::names;

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

names! {
    /// Every level, from the strictest.
    FailOn { Warning: "warning", Critical: "critical", Exhausted: "exhausted", Never: "never" }
}
