use serde::{Deserialize, Serialize};
use sre_core::{Timestamp, TraceId, Usd};

use crate::TraceTree;

/// A trace in a list: what a [`TraceTree`] adds up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct TraceSummary {
    /// The trace.
    pub trace_id: TraceId,
    /// When its first span started.
    pub start: Timestamp,
    /// Time from then to the end of its last span, in milliseconds.
    pub duration_ms: f64,
    /// The name of its first span.
    pub name: String,
    /// The agent of the first span that has one, or else the service.
    pub agent: Option<String>,
    /// The task of the first span that has one.
    pub task: Option<String>,
    /// Spans.
    pub spans: usize,
    /// Spans that failed.
    pub errors: usize,
    /// Spans that repeat a failed call.
    pub retries: usize,
    /// Places where the trace is incomplete.
    pub broken_hops: usize,
    /// The cost of all roots, if any is known.
    pub cost_usd: Option<Usd>,
    /// Input tokens of all model calls.
    pub input_tokens: u64,
    /// Output tokens of all model calls.
    pub output_tokens: u64,
}

impl TraceSummary {
    /// Returns the summary with this agent of the trace, and its first task, in place of those of the first span.
    #[must_use]
    pub fn of_agent(tree: &TraceTree, agent: &str) -> Self {
        let mut summary = Self::from(tree);
        let mut spans = tree.nodes.iter().map(|node| &node.span).filter(|span| span.agent.as_deref() == Some(agent));
        if let Some(first) = spans.next() {
            summary.agent = Some(agent.to_owned());
            summary.task = std::iter::once(first).chain(spans).find_map(|span| span.task.as_deref()).map(str::to_owned);
        }
        summary
    }
}

impl From<&TraceTree> for TraceSummary {
    fn from(tree: &TraceTree) -> Self {
        let spans = || tree.nodes.iter().map(|node| &node.span);
        Self {
            trace_id: tree.trace_id,
            start: tree.start,
            duration_ms: tree.duration().as_nanos() as f64 / 1e6,
            name: spans().next().map_or_else(String::new, |span| span.name.clone()),
            agent: spans().find_map(|span| span.agent.as_deref().or(span.service.as_deref())).map(str::to_owned),
            task: spans().find_map(|span| span.task.as_deref()).map(str::to_owned),
            spans: tree.nodes.len(),
            errors: tree.errors,
            retries: tree.retries,
            broken_hops: tree.broken_hops.len(),
            cost_usd: tree.cost_usd,
            input_tokens: tree.input_tokens,
            output_tokens: tree.output_tokens,
        }
    }
}
