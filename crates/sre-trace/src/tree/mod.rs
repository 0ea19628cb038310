mod arrange;
mod attempts;
mod broken_hop;
mod critical_path;
mod mermaid;
mod self_time;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sre_core::{Span, Timestamp, TraceId, Usd};

use self::arrange::Hierarchy;
pub use self::broken_hop::{BrokenHop, SpanRef};

/// The spans of a trace as trees, one per root, with what a reader looks for first: where the time went, what it cost, and what failed.
///
/// Spans come from any source: a [`ProtocolTracer`](crate::ProtocolTracer), agent events ([`Span::of`]) or OpenTelemetry exports. Its
/// `Display` is a table for people; [`to_mermaid`](Self::to_mermaid) draws it, and it serializes as JSON.
///
/// ```
/// use sre_core::{Span, Timestamp};
/// use sre_trace::{TraceContext, TraceTree};
///
/// let (agent, at) = (TraceContext::root(), Timestamp::from_secs);
/// let mut root = Span::new(agent.trace_id, agent.span_id, "invoke_agent planner", at(0));
/// root.end = at(10);
/// let call = agent.child();
/// let mut tool = Span::new(call.trace_id, call.span_id, "tools/call search", at(2));
/// (tool.parent_span_id, tool.end, tool.error) = (call.parent_span_id, at(9), Some("timed out".to_owned()));
///
/// let trees = TraceTree::build([tool, root]);
/// let [planner, search] = &*trees[0].nodes else { panic!() };
/// assert_eq!((planner.self_time.as_secs(), search.self_time.as_secs()), (3, 7));
/// assert!(trees[0].broken_hops.is_empty());
/// println!("{}", trees[0]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct TraceTree {
    /// The trace.
    pub trace_id: TraceId,
    /// When its first span started.
    pub start: Timestamp,
    /// When its last span ended.
    pub end: Timestamp,
    /// Spans that failed.
    pub errors: usize,
    /// Spans that repeat a failed call.
    pub retries: usize,
    /// The cost of all roots, if any is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
    /// Input tokens of all model calls.
    pub input_tokens: u64,
    /// Output tokens of all model calls.
    pub output_tokens: u64,
    /// The spans, each before those below it, and siblings by start.
    pub nodes: Vec<SpanNode>,
    /// Where the trace is incomplete.
    pub broken_hops: Vec<BrokenHop>,
}

/// A span in its tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct SpanNode {
    /// The span.
    #[serde(flatten)]
    pub span: Span,
    /// The number of spans above it.
    pub depth: usize,
    /// The index of the span above it in [`TraceTree::nodes`]. A span whose parent is missing is a root.
    #[serde(skip)]
    pub parent: Option<usize>,
    /// The time in which none of the spans directly below it ran.
    #[serde(rename = "self_ms", serialize_with = "milliseconds")]
    #[cfg_attr(feature = "schema", schema(value_type = f64))]
    pub self_time: Duration,
    /// The time that the span itself adds to the duration of its root; `None` if it is not on the critical path. Over a tree, the sum
    /// is the root's duration.
    #[serde(rename = "critical_ms", serialize_with = "optional_milliseconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<f64>))]
    pub critical_time: Option<Duration>,
    /// The number of the attempt, from 1, if it is reported or the span before it was the same call and failed.
    #[serde(rename = "attempt_number", skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The cost of the span and those below it: its own if it reports one, else the sum of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_cost_usd: Option<Usd>,
    /// Input tokens of the innermost model calls, from the span down.
    pub branch_input_tokens: u64,
    /// Output tokens of the innermost model calls, from the span down.
    pub branch_output_tokens: u64,
}

impl TraceTree {
    /// Arranges spans of any traces, in any order. Returns a tree for each trace, by start.
    ///
    /// Of spans with the same ids, the longest counts. A span whose parent was not recorded, and the first of spans that are each other's
    /// parents, becomes a root, and its [`BrokenHop`] says why.
    pub fn build(spans: impl IntoIterator<Item = Span>) -> Vec<Self> {
        let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.trace_id).or_default().push(span);
        }
        let mut trees: Vec<Self> = traces.into_values().map(Self::of_trace).collect();
        broken_hop::find_dropped_contexts(&mut trees);
        trees.sort_by_key(|tree| (tree.start, tree.trace_id));
        trees
    }

    fn of_trace(spans: Vec<Span>) -> Self {
        let Hierarchy { nodes, broken_hops } = Hierarchy::of(spans);
        let mut tree = Self {
            trace_id: nodes[0].span.trace_id,
            start: nodes.iter().map(|node| node.span.start).min().unwrap_or_default(),
            end: nodes.iter().map(|node| node.span.end).max().unwrap_or_default(),
            errors: nodes.iter().filter(|node| node.span.error.is_some()).count(),
            retries: 0,
            cost_usd: None,
            input_tokens: 0,
            output_tokens: 0,
            nodes,
            broken_hops,
        };
        let children = tree.children();
        self_time::compute(&mut tree.nodes, &children);
        critical_path::compute(&mut tree.nodes, &children);
        attempts::number(&mut tree.nodes, &children);
        tree.retries = tree.nodes.iter().filter(|node| node.is_retry()).count();
        tree.sum_branches();
        tree
    }

    /// Returns the time from the first start to the last end.
    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Returns the indexes of the nodes directly below each node, by start.
    pub fn children(&self) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                children[parent].push(index);
            }
        }
        children
    }

    /// Sums costs and tokens from the leaves up, and over the roots.
    fn sum_branches(&mut self) {
        let mut below: Vec<Branch> = vec![Branch::default(); self.nodes.len()];
        let mut whole = Branch::default();
        // A parent comes before its children.
        for index in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[index];
            let branch = below[index].with(&node.span);
            node.branch_cost_usd = branch.cost_usd;
            (node.branch_input_tokens, node.branch_output_tokens) = branch.tokens;
            node.parent.map_or(&mut whole, |parent| &mut below[parent]).add(branch);
        }
        self.cost_usd = whole.cost_usd;
        (self.input_tokens, self.output_tokens) = whole.tokens;
    }
}

impl SpanNode {
    fn new(span: Span, depth: usize, parent: Option<usize>) -> Self {
        Self {
            depth,
            parent,
            self_time: span.duration(),
            critical_time: None,
            attempt: span.attempt,
            branch_cost_usd: None,
            branch_input_tokens: 0,
            branch_output_tokens: 0,
            span,
        }
    }

    /// Returns the tokens from the span down, of input and output.
    fn branch_tokens(&self) -> u64 {
        self.branch_input_tokens.saturating_add(self.branch_output_tokens)
    }

    /// Returns whether the call was made before, and failed.
    pub fn is_retry(&self) -> bool {
        self.attempt.is_some_and(|attempt| attempt > 1)
    }
}

/// Costs and tokens of a span and those below it.
#[derive(Clone, Copy, Default)]
struct Branch {
    cost_usd: Option<Usd>,
    /// Input and output.
    tokens: (u64, u64),
}

impl Branch {
    /// Returns the branch of a span above these. A span that reports a cost reports that of everything below it; a span with model calls
    /// below it repeats their tokens.
    fn with(self, span: &Span) -> Self {
        let own = (span.input_tokens, span.output_tokens);
        Self {
            cost_usd: span.cost_usd.or(self.cost_usd),
            tokens: if self.tokens == (0, 0) { own } else { self.tokens },
        }
    }

    fn add(&mut self, other: Self) {
        self.cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.tokens = (self.tokens.0.saturating_add(other.tokens.0), self.tokens.1.saturating_add(other.tokens.1));
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_nanos() as f64 / 1e6)
}

fn optional_milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_nanos() as f64 / 1e6).serialize(serializer)
}
