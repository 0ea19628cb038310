use serde::{Deserialize, Serialize};

use crate::{Span, StoreError, Timestamp, TraceId};

/// Keeps the spans of the last bad and slow traces of each objective.
///
/// ```
/// use sre_core::{KeptTrace, Span, SpanId, StoreError, Timestamp, TraceId, TraceQuery, TraceStore, TraceUpdate};
///
/// fn keep(store: &dyn TraceStore, trace: TraceId, at: Timestamp) -> Result<(), StoreError> {
///     let mut kept = KeptTrace::new(trace, "answers", "support", at);
///     kept.bad = 1;
///     let root = Span::new(trace, SpanId::derived(&["root"]), "invoke_agent support", at);
///     store.keep(&[TraceUpdate { spans: vec![root], kept: vec![kept] }])?;
///     assert_eq!(store.query(&TraceQuery { slo: Some("answers".into()), ..Default::default() })?[0].trace_id, trace);
///     assert_eq!(store.spans(trace)?[0].name, "invoke_agent support");
///     Ok(())
/// }
/// ```
pub trait TraceStore: Send + Sync {
    /// Adds spans to traces in one transaction, sets why they are kept, and deletes the oldest traces beyond the
    /// [limits](TraceLimits). The same update may come again: of spans with the same id, the longest is kept.
    fn keep(&self, updates: &[TraceUpdate]) -> Result<(), StoreError>;

    /// Returns the spans that are kept with a trace, in no particular order. If it is not kept itself but with another, these are the
    /// spans of both.
    fn spans(&self, trace: TraceId) -> Result<Vec<Span>, StoreError>;

    /// Returns the matching traces, newest first: one record for each trace and objective.
    fn query(&self, query: &TraceQuery) -> Result<Vec<KeptTrace>, StoreError>;
}

/// Why a trace is kept: an event of it spent the error budget of an objective, or missed the target of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The event is bad by the objective.
    Bad,
    /// The event took longer than the target of one of the objective's latency indicators.
    Slow,
}

impl Verdict {
    /// Returns the lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Slow => "slow",
        }
    }
}

/// A kept trace, and the objective for which it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptTrace {
    /// The trace.
    pub trace_id: TraceId,
    /// The objective's name.
    pub slo: String,
    /// The objective's agent.
    pub agent: String,
    /// The time of the last event of the trace that was bad or slow by the objective.
    pub at: Timestamp,
    /// Number of events that were bad.
    pub bad: u64,
    /// Number of events that were slow.
    pub slow: u64,
}

impl KeptTrace {
    /// Creates a record without bad and slow events.
    pub fn new(trace_id: TraceId, slo: impl Into<String>, agent: impl Into<String>, at: Timestamp) -> Self {
        Self { trace_id, slo: slo.into(), agent: agent.into(), at, bad: 0, slow: 0 }
    }

    /// Returns whether the trace is one of the bad or of the slow ones. One that is both is bad.
    pub const fn verdict(&self) -> Verdict {
        if self.bad > 0 { Verdict::Bad } else { Verdict::Slow }
    }
}

/// A change of a kept trace.
///
/// Exhaustive: a change has these two parts.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceUpdate {
    /// Spans that are new: of the trace, or of another in which a call of it was received.
    pub spans: Vec<Span>,
    /// The objectives for which the trace is kept, all of them: at least one, of one trace.
    pub kept: Vec<KeptTrace>,
}

/// A filter for kept traces; `None` matches all. Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceQuery {
    /// Only traces of the objective of this name.
    pub slo: Option<String>,
    /// Only traces of this agent's objectives.
    pub agent: Option<String>,
    /// Only traces with spans of this task.
    pub task: Option<String>,
    /// Only traces with this verdict.
    pub verdict: Option<Verdict>,
    /// The maximum number of records; the newest are returned.
    pub limit: Option<usize>,
}

/// How many traces are kept.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLimits {
    /// Bad traces of each agent's objective; the oldest give way. With 0, none are kept.
    pub bad_per_objective: usize,
    /// Slow traces of each agent's objective, in addition to the bad ones. With 0, none are kept.
    pub slow_per_objective: usize,
    /// Size of all traces, in bytes: beyond it, the oldest traces give way.
    pub max_bytes: u64,
}

impl TraceLimits {
    /// Returns how many traces of this verdict are kept for each agent's objective.
    pub const fn per_objective(&self, verdict: Verdict) -> usize {
        match verdict {
            Verdict::Bad => self.bad_per_objective,
            Verdict::Slow => self.slow_per_objective,
        }
    }
}

impl Default for TraceLimits {
    /// Returns 20 bad and 10 slow traces, and 64 MiB.
    fn default() -> Self {
        Self { bad_per_objective: 20, slow_per_objective: 10, max_bytes: 64 << 20 }
    }
}
