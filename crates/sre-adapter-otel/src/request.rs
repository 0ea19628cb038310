use serde::{Deserialize, Serialize};
use sre_core::private::json_text;
use sre_core::{AdapterError, Event, SpanId, Timestamp, TraceId};

use crate::dialects::EVALUATION_EVENT;
use crate::span::{Known, Span};
use crate::{json, protobuf};

/// An export request as far as it matters to agents' runs: read, and not taken in by an adapter yet.
///
/// Reading takes most of the time and needs no adapter, so that a service may read on many threads, write down what it read
/// (with a [`StateWriter`](sre_core::StateWriter), a tenth of the size it came in), and take it in later, in order.
///
/// ```
/// use sre_adapter_otel::{OtelAdapter, Request};
/// let body = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",
///     "spanId":"eee19b7ec3c1b174","name":"answer","startTimeUnixNano":"1790000000000000000",
///     "endTimeUnixNano":"1790000002000000000"}]}]}]}"#;
/// let request = Request::read(body).unwrap();
/// assert_eq!((request.spans(), request.rejected()), (1, 0));
/// OtelAdapter::default().take(request, &mut |event| println!("{event:?}"));
/// ```
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Request {
    pub(crate) items: Vec<Item>,
    pub(crate) services: Vec<String>,
    pub(crate) rejected: u64,
    pub(crate) unknown: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Span { trace: TraceId, span: Span, service: Option<u32> },
    Evaluation(Evaluation),
}

/// An answer was judged, as a log record tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) time: Timestamp,
    pub(crate) trace: Option<TraceId>,
    pub(crate) span: Option<SpanId>,
    /// The agent, where the record names one.
    pub(crate) agent: Option<String>,
    #[serde(with = "json_text")]
    pub(crate) event: Event,
}

impl Request {
    /// Reads the body of a request: traces as protobuf, or anything as JSON.
    pub fn read(body: &[u8]) -> Result<Self, AdapterError> {
        let mut request = Self::default();
        // No protobuf of OTLP begins with a brace: it would be a group, which OTLP has none of.
        let is_json =
            body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"'));
        if is_json {
            json::read(body, &mut request)?;
        } else if body.is_empty() {
            return Err(AdapterError::Malformed("found nothing, expected an OTLP export request".to_owned()));
        } else {
            protobuf::traces(body, &mut request)?;
        }
        Ok(request)
    }

    /// Reads the protobuf body of a request of traces; an empty one has none.
    pub fn read_traces(body: &[u8]) -> Result<Self, AdapterError> {
        let mut request = Self::default();
        protobuf::traces(body, &mut request).map(|()| request)
    }

    /// Reads the protobuf body of a request of logs; an empty one has none.
    pub fn read_logs(body: &[u8]) -> Result<Self, AdapterError> {
        let mut request = Self::default();
        protobuf::logs(body, &mut request).map(|()| request)
    }

    /// How many spans there are.
    pub fn spans(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Span { .. })).count()
    }

    /// How many evaluations there are among its logs.
    pub fn evaluations(&self) -> usize {
        self.items.len() - self.spans()
    }

    /// How many spans were passed over: without an id or a time, or with a duration or a cost that cannot be.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How many log records were no evaluations.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Passes over what ends after `time`, as told by a clock that must be wrong.
    pub fn drop_after(&mut self, time: Timestamp) {
        let before = self.items.len();
        self.items.retain(|item| match item {
            Item::Span { span, .. } => span.end <= time,
            Item::Evaluation(evaluation) => evaluation.time <= time,
        });
        self.rejected += (before - self.items.len()) as u64;
    }

    /// Remembers a service's name; spans of it say only its number.
    pub(crate) fn service(&mut self, name: Option<&str>) -> Option<u32> {
        self.services.push(name?.to_owned());
        Some(self.services.len() as u32 - 1)
    }

    pub(crate) fn add_span(&mut self, read: Option<(TraceId, Span)>, service: Option<u32>) {
        match read {
            Some((trace, span)) => self.items.push(Item::Span { trace, span, service }),
            None => self.rejected += 1,
        }
    }

    pub(crate) fn add_log(
        &mut self,
        name: &str,
        time: Option<Timestamp>,
        (trace, span): (Option<TraceId>, Option<SpanId>),
        known: &Known<'_>,
        service: Option<&str>,
    ) {
        let is_evaluation = name == EVALUATION_EVENT || known.text(&["event.name"]) == Some(EVALUATION_EVENT);
        let event = if is_evaluation { known.gen_ai_evaluation() } else { None };
        match (event, time) {
            (Some(event), Some(time)) => {
                let agent = known.text(&["gen_ai.agent.name"]).or(service).map(str::to_owned);
                self.items.push(Item::Evaluation(Evaluation { time, trace, span, agent, event }));
            }
            _ => self.unknown += 1,
        }
    }
}
