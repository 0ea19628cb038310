//! What the exporters that send OTLP share: attributes, the span of an event, requests in protobuf and partial success.
//!
//! ```
//! use sre_core::{AgentEvent, EventSpan};
//! use sre_otlp::Attributes;
//!
//! let line = br#"{"event":"tool_call","time":12.5,"agent":"a","task":"t","tool":"search","duration_ms":500}"#;
//! let event = AgentEvent::from_json(line)?;
//! let place = EventSpan::of(&event).unwrap();
//! let mut spans = sre_otlp::Spans::default();
//! spans.add(|span| {
//!     let (name, kind) = sre_otlp::gen_ai(&event, &place, &mut span.attributes());
//!     span.name(&name);
//!     span.kind(kind);
//!     span.event_span(&place);
//! });
//! assert_eq!(spans.len(), 1);
//! # Ok::<(), sre_core::InvalidEvent>(())
//! ```
mod attributes;
mod encoder;
mod gen_ai;
mod request;
mod spans;

pub use attributes::Attributes;
pub use encoder::Encoder;
pub use gen_ai::{Name, gen_ai};
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
pub use request::{OtlpRequest, post, send_spans};
pub use spans::{SpanWriter, Spans, unix_nanos};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
