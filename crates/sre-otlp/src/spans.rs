use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use sre_core::{EventSpan, SpanId, Timestamp, TraceId};

use crate::{Attributes, Encoder};

/// The spans of a request, encoded.
///
/// ```
/// let mut spans = sre_otlp::Spans::default();
/// spans.add(|span| span.name(&["chat ", "gpt-4o"]));
/// assert_eq!(spans.len(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Spans {
    encoded: Encoder,
    len: usize,
}

/// The size that most spans stay below, in bytes.
const TYPICAL_SPAN: usize = 640;

impl Spans {
    /// Creates an empty list with room for that many spans.
    pub fn with_capacity(spans: usize) -> Self {
        Self { encoded: Encoder::with_capacity(spans * TYPICAL_SPAN), len: 0 }
    }

    /// Adds a span, of which `write` writes the fields.
    pub fn add(&mut self, write: impl FnOnce(&mut SpanWriter<'_>)) {
        self.encoded.message(2, |span| write(&mut SpanWriter(span)));
        self.len += 1;
    }

    /// Returns the spans as the field of `ScopeSpans`.
    pub fn as_bytes(&self) -> &[u8] {
        self.encoded.as_bytes()
    }

    /// Returns the number of spans.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no spans.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Writes the fields of one span, each at most once, in any order.
#[derive(Debug)]
pub struct SpanWriter<'a>(&'a mut Encoder);

impl SpanWriter<'_> {
    /// Writes ids, times, and the error of a failed event as the status.
    pub fn event_span(&mut self, span: &EventSpan<'_>) {
        self.ids(span.trace_id, span.span_id, span.parent_span_id);
        self.times(span.start, span.end);
        if span.outcome == Some(false) {
            self.status(StatusCode::Error, span.error.unwrap_or_default());
        }
    }

    /// Writes the ids.
    pub fn ids(&mut self, trace: TraceId, span: SpanId, parent: Option<SpanId>) {
        self.0.bytes(1, &trace.to_bytes());
        self.0.bytes(2, &span.to_bytes());
        if let Some(parent) = parent {
            self.0.bytes(4, &parent.to_bytes());
        }
    }

    /// Writes the name, which is the concatenation of the parts.
    pub fn name(&mut self, parts: &[&str]) {
        self.0.text(5, parts);
    }

    /// Writes the kind.
    pub fn kind(&mut self, kind: SpanKind) {
        self.0.uint(6, kind as u64);
    }

    /// Writes start and end.
    pub fn times(&mut self, start: Timestamp, end: Timestamp) {
        self.0.fixed(7, unix_nanos(start));
        self.0.fixed(8, unix_nanos(end));
    }

    /// Returns a writer of the attributes.
    pub fn attributes(&mut self) -> Attributes<'_> {
        self.0.attributes(9)
    }

    /// Adds an event with these attributes.
    pub fn event(&mut self, name: &str, time: Timestamp, write: impl FnOnce(&mut Attributes<'_>)) {
        self.0.message(11, |event| {
            event.fixed(1, unix_nanos(time));
            event.text(2, &[name]);
            write(&mut event.attributes(3));
        });
    }

    /// Adds the error of a failed event as OpenTelemetry's event `exception`, which several backends show.
    pub fn exception(&mut self, place: &EventSpan<'_>) {
        if let Some(error) = place.error.filter(|_| place.outcome == Some(false)) {
            self.event("exception", place.end, |attributes| attributes.text("exception.message", error));
        }
    }

    /// Writes the status.
    pub fn status(&mut self, code: StatusCode, message: &str) {
        self.0.message(15, |status| {
            if !message.is_empty() {
                status.text(2, &[message]);
            }
            status.uint(3, code as u64);
        });
    }

    /// Writes the status OK of an event that succeeded, for backends that show a span without a status as unfinished.
    pub fn ok(&mut self, place: &EventSpan<'_>) {
        if place.outcome == Some(true) {
            self.status(StatusCode::Ok, "");
        }
    }
}

/// Returns nanoseconds since the Unix epoch. OTLP has no time before 1970.
pub fn unix_nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0)
}
