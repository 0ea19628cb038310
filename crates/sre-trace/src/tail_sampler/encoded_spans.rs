use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sre_core::{Span, SpanId, SpanRole, Timestamp, TraceId, Usd};

/// The spans of a trace, as bytes: they take a third of the memory, and are saved as they are.
#[derive(Clone, Debug, Default)]
pub(super) struct EncodedSpans {
    bytes: Vec<u8>,
    count: usize,
}

impl EncodedSpans {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn push(&mut self, span: &Span) {
        // Encoding to a Vec cannot fail.
        if let Ok(bytes) = postcard::to_extend(&EncodedSpan::of(span), std::mem::take(&mut self.bytes)) {
            self.bytes = bytes;
            self.count += 1;
        }
    }

    /// Returns the spans from the byte `from` on.
    pub(super) fn decode(&self, trace: TraceId, from: usize) -> Vec<Span> {
        decode(trace, self.bytes.get(from..).unwrap_or_default()).unwrap_or_default()
    }

    /// Returns `None` if the bytes are damaged.
    pub(super) fn from_bytes(trace: TraceId, bytes: Vec<u8>) -> Option<Self> {
        let count = decode(trace, &bytes)?.len();
        Some(Self { bytes, count })
    }
}

fn decode(trace: TraceId, mut bytes: &[u8]) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    while !bytes.is_empty() {
        let (span, rest) = postcard::take_from_bytes::<EncodedSpan<'_>>(bytes).ok()?;
        spans.push(span.into_span(trace)?);
        bytes = rest;
    }
    Some(spans)
}

/// A span without its trace. It never changes, because it is part of the saved state.
#[derive(Serialize, Deserialize)]
struct EncodedSpan<'a> {
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: Cow<'a, str>,
    role: SpanRole,
    /// Agent, service, task, call id, request id and error.
    texts: [Option<Cow<'a, str>>; 6],
    start: Timestamp,
    end: Timestamp,
    attempt: Option<u32>,
    tokens: (u64, u64),
    cost_usd: Option<Usd>,
}

impl<'a> EncodedSpan<'a> {
    fn of(span: &'a Span) -> Self {
        let Span { agent, service, task, call_id, request_id, error, .. } = span;
        let [agent, service, task] = [agent, service, task].map(|text| text.as_deref());
        let [call_id, request_id, error] = [call_id, request_id, error].map(|text| text.as_deref());
        Self {
            id: span.span_id.to_bytes(),
            parent: span.parent_span_id.map(SpanId::to_bytes),
            name: Cow::Borrowed(&span.name),
            role: span.role,
            texts: [agent, service, task, call_id, request_id, error].map(|text| text.map(Cow::Borrowed)),
            start: span.start,
            end: span.end,
            attempt: span.attempt,
            tokens: (span.input_tokens, span.output_tokens),
            cost_usd: span.cost_usd,
        }
    }

    fn into_span(self, trace: TraceId) -> Option<Span> {
        let mut span = Span::new(trace, SpanId::from_bytes(self.id)?, self.name, self.start);
        let [agent, service, task, call_id, request_id, error] = self.texts;
        [span.agent, span.service, span.task] = [agent, service, task].map(|text| text.map(Into::into));
        [span.call_id, span.request_id, span.error] =
            [call_id, request_id, error].map(|text| text.map(Cow::into_owned));
        span.parent_span_id = self.parent.and_then(SpanId::from_bytes);
        (span.role, span.end, span.attempt) = (self.role, self.end, self.attempt);
        (span.input_tokens, span.output_tokens) = self.tokens;
        span.cost_usd = self.cost_usd;
        Some(span)
    }
}
