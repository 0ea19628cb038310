use std::collections::HashMap;

use agent_sre::{Collect, Metric, Timestamp};
use regex::RegexSet;

/// Agents without series of their own in `/metrics`: those whose whole name matches one of some regular expressions, as in Prometheus'
/// relabelling.
///
/// ```
/// use sre_server::DroppedAgents;
/// let dropped = DroppedAgents::new(["load-test-.*", "canary"]).unwrap();
/// assert!(dropped.contains("load-test-7") && dropped.contains("canary") && !dropped.contains("canary-2"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct DroppedAgents(RegexSet);

impl DroppedAgents {
    /// Drops the agents that match any of these expressions. `.*` drops all.
    ///
    /// # Errors
    ///
    /// Returns an error if an expression is invalid or too large.
    pub fn new<S: AsRef<str>>(expressions: impl IntoIterator<Item = S>) -> Result<Self, regex::Error> {
        let anchored = expressions.into_iter().map(|expression| format!("^(?:{})$", expression.as_ref()));
        RegexSet::new(anchored).map(Self)
    }

    /// Returns whether an agent has no series.
    pub fn contains(&self, agent: &str) -> bool {
        self.0.is_match(agent)
    }
}

/// The metrics of a source without those of some agents.
pub(crate) struct WithoutAgents<'a> {
    pub(crate) source: &'a dyn Collect,
    pub(crate) dropped: &'a DroppedAgents,
}

impl Collect for WithoutAgents<'_> {
    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        if self.dropped.0.is_empty() {
            return self.source.metrics(now, emit);
        }
        let mut known: HashMap<String, bool> = HashMap::new();
        self.source.metrics(now, &mut |metric| {
            if let Some(agent) = metric.agent() {
                let is_dropped = known.get(agent).copied().unwrap_or_else(|| {
                    let is_dropped = self.dropped.contains(agent);
                    known.insert(agent.to_owned(), is_dropped);
                    is_dropped
                });
                if is_dropped {
                    return;
                }
            }
            emit(metric);
        });
    }
}
