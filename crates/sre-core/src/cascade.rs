use serde::Serialize;

use crate::{Target, Timestamp};

/// Failures that spread: where they began, whom they reached, and whom they can reach.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CascadeReport {
    /// What failed first: nothing that it calls failed before it.
    pub origin: Target,
    /// How the failures went on from there: each entry calls the one before it. The origin alone where the call graph
    /// explains nothing.
    pub path: Vec<FailingTarget>,
    /// Everything whose circuit is open, what failed first in front.
    pub open: Vec<Target>,
    /// How many call something of the path or of the open ones, directly or not, without having failed themselves.
    pub exposed: usize,
    /// Who they are, nearest first: the first hundred.
    pub blast_radius: Vec<Target>,
}

/// Something that fails, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingTarget {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// When it began to fail.
    pub since: Timestamp,
}
