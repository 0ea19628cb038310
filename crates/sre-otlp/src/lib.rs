//! What the exporters that send OTLP share: attributes, the span of an event, requests in protobuf and partial success.
//!
//! ```
//! use sre_core::{AgentEvent, EventSpan};
//! use sre_otlp::Attributes;
//!
//! let line = br#"{"event":"tool_call","time":12.5,"agent":"a","task":"t","tool":"search","duration_ms":500}"#;
//! let event = AgentEvent::from_json(line)?;
//! let place = EventSpan::of(&event).unwrap();
//! let mut attributes = Attributes::default();
//! let (name, kind) = sre_otlp::gen_ai(&event, &place, &mut attributes);
//! let span = sre_otlp::span(&place, name, kind, attributes);
//! assert_eq!(span.name, "execute_tool search");
//! # Ok::<(), sre_core::InvalidEvent>(())
//! ```
mod attributes;
mod gen_ai;
mod request;

pub use attributes::Attributes;
pub use gen_ai::gen_ai;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
pub use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event as SpanEvent};
pub use request::{add_exception, post, resource, scope, send_spans, set_ok, span, trace_request, unix_nanos};
