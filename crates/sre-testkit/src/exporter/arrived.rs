use sre_core::{EventSpan, Wants};

use super::Backend;
use super::data::{CALL_SPAN, Data};

/// The records that a backend read from requests.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Spans, runs or observations.
    pub spans: Vec<ArrivedSpan>,
    /// Scores of events, each with its trace in hex, its name and its value.
    pub scores: Vec<(String, String, f64)>,
    /// Metrics by name, and scores of objectives, each with its value; of a histogram its sum.
    pub metrics: Vec<(String, f64)>,
}

/// A span as read by a backend.
#[derive(Clone, Debug, Default)]
pub struct ArrivedSpan {
    /// The trace, in hex.
    pub trace_id: String,
    /// The span, in hex.
    pub span_id: String,
    /// The parent, in hex.
    pub parent_span_id: Option<String>,
    /// Nanoseconds since 1970.
    pub start: i64,
    /// Nanoseconds since 1970.
    pub end: i64,
    /// Whether it failed.
    pub is_error: bool,
    /// Tokens and cost of a model call.
    pub usage: Option<Usage>,
}

/// Tokens and cost of a model call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Input tokens that came from the cache.
    pub cached_input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// The cost, in US dollars.
    pub cost_usd: Option<f64>,
}

/// Tokens and cost of the suite's model call.
pub const CALL: Usage =
    Usage { input_tokens: 1_000, cached_input_tokens: 200, output_tokens: 50, cost_usd: Some(0.0125) };

impl Arrived {
    pub(super) fn extend(&mut self, other: Self) {
        self.spans.extend(other.spans);
        self.scores.extend(other.scores);
        self.metrics.extend(other.metrics);
    }

    /// Panics if something is missing or wrong. The number of spans and scores must be that of the accepted events.
    pub(super) fn check(&self, data: &Data, wants: Wants, accepted_events: u64, backend: &dyn Backend) {
        let mut found = 0;
        for span in data.events.iter().filter_map(|event| EventSpan::of(event)) {
            let Some(arrived) = self.spans.iter().find(|arrived| arrived.span_id == span.span_id.to_string()) else {
                continue;
            };
            found += 1;
            assert_eq!(arrived.trace_id, span.trace_id.to_string(), "the trace of {span:?}");
            assert_eq!(arrived.parent_span_id, span.parent_span_id.map(|id| id.to_string()), "the parent of {span:?}");
            for (found, expected) in [(arrived.start, span.start), (arrived.end, span.end)] {
                let apart = found.abs_diff(expected.as_nanos());
                assert!(u128::from(apart) < backend.precision().as_nanos(), "{arrived:?} is not {span:?}");
            }
            let may_fail = span.outcome == Some(false);
            assert_eq!(arrived.is_error, may_fail, "the outcome of {span:?}");
            if arrived.span_id == CALL_SPAN {
                assert_eq!(arrived.usage, Some(CALL), "tokens and cost");
            }
        }
        if wants.events && backend.has_spans() {
            assert!(self.spans.iter().any(|span| span.span_id == CALL_SPAN), "the model call arrives: {self:?}");
        }
        if wants.events && (backend.has_spans() || !self.scores.is_empty()) {
            let arrived = found + self.scores.len() as u64;
            assert_eq!(arrived, accepted_events, "every event that was taken arrives: {self:?}");
        }
        if wants.metrics {
            for (name, value) in [("gauge", -1.5), ("gauge", 2.5), ("counter", 7.0), ("latency", 2.6)] {
                let has = |(found, is): &(String, f64)| found.contains(name) && (is - value).abs() < 1e-9;
                assert!(self.metrics.iter().any(has), "suite.{name} arrives as {value}: {:?}", self.metrics);
            }
        } else if wants.snapshots {
            assert!(self.metrics.iter().any(|(_, value)| *value == 0.4), "the budget arrives: {:?}", self.metrics);
        }
    }
}
