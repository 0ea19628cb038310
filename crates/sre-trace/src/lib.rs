//! One trace through agents, tools and models.
//!
//! [`TraceContext`] is the position of a call within a trace: it is read from the headers of a request and written into those of the next
//! one, by the [W3C Trace Context](https://www.w3.org/TR/trace-context-2/) (level 2) and [W3C Baggage](https://www.w3.org/TR/baggage/).
//! The working group's own test suite passes.
//!
//! ```
//! use sre_trace::TraceContext;
//! let received = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
//! let caller = TraceContext::from_headers(received).unwrap();
//! let call = caller.child();
//! assert_eq!((call.trace_id, call.parent_span_id), (caller.trace_id, Some(caller.span_id)));
//! for (name, value) in call.to_headers() {
//!     println!("{name}: {value}");
//! }
//! ```
//!
//! With the feature `opentelemetry`, `Propagator` does the same for the spans of that crate.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod baggage;
mod context;
#[cfg(feature = "opentelemetry")]
mod propagator;
mod traceparent;
mod tracestate;

pub use baggage::{Baggage, BaggageEntry, InvalidBaggage};
pub use context::{HeaderError, TraceContext};
#[cfg(feature = "opentelemetry")]
pub use propagator::Propagator;
pub use sre_core::{SpanId, TraceId};
pub use traceparent::{InvalidTraceparent, TraceFlags, Traceparent, TraceparentText};
pub use tracestate::{InvalidTracestate, Tracestate};
