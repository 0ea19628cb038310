use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sre_core::{SpanId, SpanRole, Timestamp, TraceId, Usd};

use crate::record::{ProtocolType, SpanRecord};
use crate::tree::TraceTree;

/// What a [`ProtocolTracer`](crate::ProtocolTracer) has traced: its spans, in time and as trees.
///
/// Its `Display` is a table for each trace, and it serializes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TracingReport {
    /// The agent.
    pub agent_id: String,
    /// The trace of the tracer itself.
    pub trace_id: TraceId,
    /// The spans that have ended, by end.
    pub protocol_spans: Vec<SpanRecord>,
    /// What was called, by start.
    pub timeline: Vec<ProtocolTimelineEntry>,
    /// The spans as trees, by start.
    pub traces: Vec<TraceTree>,
    /// When the first span started; `None` without spans.
    pub start_time: Option<Timestamp>,
    /// When the last span ended; `None` without spans.
    pub end_time: Option<Timestamp>,
    /// Spans that gave way to later ones.
    pub dropped_spans: u64,
}

/// A call in the order of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProtocolTimelineEntry {
    /// When it started.
    pub timestamp: Timestamp,
    /// The agent that recorded it.
    pub agent_id: String,
    /// The protocol.
    pub protocol: ProtocolType,
    /// Whether the agent made or received the call.
    pub direction: SpanRole,
    /// The other side.
    pub peer_agent: Option<String>,
    /// The span.
    pub span_id: SpanId,
    /// The name of the span.
    pub label: String,
    /// The duration, in milliseconds.
    pub duration_ms: f64,
}

impl TracingReport {
    pub(crate) fn new(agent_id: &str, trace_id: TraceId, spans: Vec<SpanRecord>, dropped_spans: u64) -> Self {
        let mut timeline: Vec<_> = spans.iter().map(ProtocolTimelineEntry::of).collect();
        timeline.sort_by_key(|entry| entry.timestamp);
        Self {
            agent_id: agent_id.to_owned(),
            trace_id,
            timeline,
            traces: TraceTree::build(spans.iter().map(|record| record.span.clone())),
            start_time: spans.iter().map(|record| record.span.start).min(),
            end_time: spans.iter().map(|record| record.span.end).max(),
            protocol_spans: spans,
            dropped_spans,
        }
    }

    /// Returns the number of A2A calls made and received.
    pub fn a2a_calls(&self) -> usize {
        self.count(ProtocolType::A2a)
    }

    /// Returns the number of MCP calls made and received.
    pub fn mcp_calls(&self) -> usize {
        self.count(ProtocolType::Mcp)
    }

    /// Returns the number of spans that failed.
    pub fn error_count(&self) -> usize {
        self.protocol_spans.iter().filter(|record| record.span.error.is_some()).count()
    }

    /// Returns the cost of all traces; zero if none is known.
    pub fn total_cost_usd(&self) -> Usd {
        self.traces.iter().filter_map(|tree| tree.cost_usd).sum()
    }

    /// Returns the time from the first start to the last end, in milliseconds.
    pub fn total_duration_ms(&self) -> f64 {
        let duration = self.end_time.zip(self.start_time).map(|(end, start)| end.since(start));
        duration.unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
    }

    /// Returns the number of spans of each protocol.
    pub fn protocol_breakdown(&self) -> BTreeMap<ProtocolType, usize> {
        let mut counts = BTreeMap::new();
        for record in &self.protocol_spans {
            *counts.entry(record.protocol).or_default() += 1;
        }
        counts
    }

    /// Returns the fields of `TracingReport.to_dict` in the Python package `agent-sre`.
    pub fn to_dict(&self) -> Value {
        json!({
            "agent_id": self.agent_id,
            "trace_id": self.trace_id,
            "a2a_calls": self.a2a_calls(),
            "mcp_calls": self.mcp_calls(),
            "error_count": self.error_count(),
            "total_cost_usd": self.total_cost_usd(),
            "total_duration_ms": self.total_duration_ms(),
            "protocol_breakdown": self.protocol_breakdown(),
            "spans": self.protocol_spans.iter().map(SpanRecord::to_dict).collect::<Vec<_>>(),
            "timeline": self.timeline.iter().map(ProtocolTimelineEntry::to_dict).collect::<Vec<_>>(),
        })
    }

    fn count(&self, protocol: ProtocolType) -> usize {
        self.protocol_spans.iter().filter(|record| record.protocol == protocol).count()
    }
}

impl ProtocolTimelineEntry {
    /// Returns the fields of `ProtocolTimelineEntry.to_dict` in the Python package `agent-sre`: `direction` is `send` or `receive`.
    pub fn to_dict(&self) -> Value {
        let is_received = matches!(self.direction, SpanRole::Server | SpanRole::Consumer);
        json!({
            "timestamp": self.timestamp,
            "agent_id": self.agent_id,
            "protocol": self.protocol,
            "direction": if is_received { "receive" } else { "send" },
            "peer_agent": self.peer_agent.as_deref().unwrap_or_default(),
            "span_id": self.span_id,
            "label": self.label,
            "duration_ms": self.duration_ms,
        })
    }

    fn of(record: &SpanRecord) -> Self {
        let span = &record.span;
        Self {
            timestamp: span.start,
            agent_id: span.agent.as_deref().unwrap_or_default().to_owned(),
            protocol: record.protocol,
            direction: span.role,
            peer_agent: record.peer().map(str::to_owned),
            span_id: span.span_id,
            label: span.name.clone(),
            duration_ms: span.end.millis_since(span.start),
        }
    }
}

impl fmt::Display for TracingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tree) in self.traces.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{tree}")?;
        }
        if self.dropped_spans > 0 {
            writeln!(f, "{} earlier spans are no longer kept", self.dropped_spans)?;
        }
        Ok(())
    }
}
