use std::fmt;

use serde::{Serialize, Serializer};
use sre_core::{SpanId, TraceId, stable_id};

/// The id of a run, as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunId([u8; 16]);

impl RunId {
    /// Returns the id of a trace's root run, which LangSmith requires to be the id of the trace.
    pub(crate) fn of_trace(trace: TraceId) -> Self {
        Self(trace.to_bytes())
    }

    /// Returns the id of a span's run, the one that LangSmith's own OpenTelemetry bridge derives from it
    /// (`getUuidFromOtelSpanId` of langsmith-sdk).
    pub(crate) fn of_span(span: SpanId) -> Self {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&span.to_bytes());
        Self(bytes)
    }

    /// Returns an id that no other run has.
    pub(crate) fn random() -> Self {
        Self(fastrand::u128(1..).to_be_bytes())
    }

    /// Returns the id of something that has no span of its own. The same texts give the same id.
    pub(crate) fn derived(parts: &[&str]) -> Self {
        Self(stable_id(parts))
    }
}

/// The text of an id, such as `123e4567-e89b-12d3-a456-426614174000`.
pub(crate) struct RunIdText([u8; 36]);

impl RunIdText {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits")
    }
}

impl RunId {
    /// Returns the text.
    pub(crate) fn to_text(self) -> RunIdText {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        // Each byte has two digits; the groups of a UUID are 4, 2, 2, 2 and 6 bytes.
        let mut at = 0;
        for (place, byte) in self.0.iter().enumerate() {
            at += usize::from(matches!(place, 4 | 6 | 8 | 10));
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        RunIdText(text)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().as_str())
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_spans_are_those_of_the_vendors_bridge() {
        let trace: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        assert_eq!(RunId::of_trace(trace).to_string(), "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
        let span: SpanId = "00f067aa0ba902b7".parse().unwrap();
        assert_eq!(RunId::of_span(span).to_string(), "00000000-0000-0000-00f0-67aa0ba902b7");
    }
}
