use serde::{Deserialize, Serialize};

use crate::{Metric, Target, Timestamp};

/// Failures that spread: where they began, whom they reached, and whom they can reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CascadeReport {
    /// What failed first: nothing that it calls failed before it.
    pub origin: Target,
    /// How the failures went on from there: each entry calls the one before it. The origin alone where the call graph
    /// explains nothing.
    pub path: Vec<Failing>,
    /// Everything whose circuit is open, what failed first in front.
    pub open: Vec<Target>,
    /// How many call something of the path or of the open ones, directly or not, without having failed themselves.
    pub exposed: usize,
    /// Who they are, nearest first: the first hundred.
    pub blast_radius: Vec<Target>,
}

impl CascadeReport {
    /// Emits the cascade's metrics, labelled with the `kind` and name of its `origin`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let origin = [("kind", self.origin.kind.as_str()), ("origin", self.origin.name.as_str())];
        for (name, count, help) in [
            ("sre.cascade.path_length", self.path.len(), "Length of the path along which failures spread."),
            ("sre.cascade.open_circuits", self.open.len(), "Circuits that are open."),
            ("sre.cascade.exposed", self.exposed, "Callers of what failed that have not failed yet."),
        ] {
            emit(Metric::gauge(name, count as f64).with_labels(&origin).with_help(help));
        }
    }
}

/// Something that fails, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// When it began to fail.
    pub since: Timestamp,
}
