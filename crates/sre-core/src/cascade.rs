use serde::{Deserialize, Serialize};

use crate::{Target, Timestamp};

/// A cascading failure: its origin, its path through the call graph and its blast radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct CascadeReport {
    /// The target that failed first: none of its callees failed before it.
    pub origin: Target,
    /// The targets that failed one after the other, each a caller of the one before it. Only the origin when the call graph
    /// does not connect the failures.
    pub path: Vec<FailingTarget>,
    /// Targets whose circuit is open, ordered by their first failure.
    pub open: Vec<Target>,
    /// Number of targets in the full blast radius.
    pub exposed: usize,
    /// Direct and indirect callers of the path and of the open targets that are in neither, nearest first. At most 100 are
    /// listed; `exposed` counts all.
    pub blast_radius: Vec<Target>,
}

impl CascadeReport {
    /// Creates a report that has only an origin.
    pub const fn new(origin: Target) -> Self {
        Self { origin, path: Vec::new(), open: Vec::new(), exposed: 0, blast_radius: Vec::new() }
    }
}

/// A failing target and the time of its first failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct FailingTarget {
    /// The target.
    #[serde(flatten)]
    pub target: Target,
    /// Time of the first failure.
    pub since: Timestamp,
}

impl FailingTarget {
    /// Creates an entry for a target that has failed since `since`.
    pub const fn new(target: Target, since: Timestamp) -> Self {
        Self { target, since }
    }
}
