use opentelemetry::Context;
use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{self as otel, SpanContext, TraceContextExt, TraceState};
use sre_core::{SpanId, TraceId};

use crate::baggage::{Baggage, BaggageEntry};
use crate::context::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceContext};
use crate::traceparent::TraceFlags;
use crate::tracestate::Tracestate;

/// OpenTelemetry's interface to the headers: W3C Trace Context of level 2, and W3C Baggage.
///
/// It differs from `opentelemetry_sdk`'s `TraceContextPropagator` in what the W3C test suite asks for: more than one `traceparent` begins a
/// new trace, a `tracestate` of more than 32 members is dropped, and every key of level 2 is sent on.
///
/// ```
/// use std::collections::HashMap;
/// use opentelemetry::propagation::TextMapPropagator;
/// use opentelemetry::trace::TraceContextExt;
/// use sre_trace::Propagator;
///
/// opentelemetry::global::set_text_map_propagator(Propagator::default());
/// let headers = HashMap::from([(
///     "traceparent".to_owned(),
///     "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
/// )]);
/// let context = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&headers));
/// assert_eq!(context.span().span_context().span_id().to_string(), "b7ad6b7169203331");
/// ```
#[derive(Clone, Debug)]
pub struct Propagator {
    fields: [String; 3],
}

impl Default for Propagator {
    fn default() -> Self {
        Self { fields: [TRACEPARENT, TRACESTATE, BAGGAGE].map(str::to_owned) }
    }
}

/// What the caller's headers had: OpenTelemetry's `TraceState` refuses keys that level 2 allows, and its SDK clears the flag of a random id.
struct Received {
    trace_id: TraceId,
    flags: TraceFlags,
    tracestate: Tracestate,
}

impl TextMapPropagator for Propagator {
    fn inject_context(&self, cx: &Context, injector: &mut dyn Injector) {
        let span = cx.span();
        let baggage = Baggage::from_context(cx);
        let Some(mut context) = TraceContext::from_span_context(span.span_context()) else {
            if !baggage.is_empty() {
                injector.set(BAGGAGE, baggage.to_string());
            }
            return;
        };
        if let Some(received) = cx.get::<Received>().filter(|received| received.trace_id == context.trace_id) {
            context.flags = received.flags.with_sampled(context.is_sampled());
            if context.tracestate.is_empty() {
                context.tracestate = received.tracestate.clone();
            }
        }
        context.baggage = baggage;
        context.to_headers().into_iter().for_each(|(name, value)| injector.set(name, value));
    }

    fn extract_with_context(&self, cx: &Context, extractor: &dyn Extractor) -> Context {
        let values = |name: &'static str| {
            extractor.get_all(name).unwrap_or_default().into_iter().map(move |value| (name, value))
        };
        let headers = || [TRACEPARENT, TRACESTATE, BAGGAGE].into_iter().flat_map(values);
        let with_baggage = |cx: Context, baggage: &Baggage| {
            if baggage.is_empty() {
                cx
            } else {
                cx.with_baggage(baggage.iter().map(KeyValueMetadata::from).collect::<Vec<_>>())
            }
        };
        match TraceContext::from_headers(headers()) {
            Ok(context) => {
                let with_span = cx.with_remote_span_context(SpanContext::from(&context));
                let TraceContext { trace_id, flags, tracestate, .. } = context;
                let received = Received { trace_id, flags, tracestate };
                with_baggage(with_span.with_value(received), &context.baggage)
            }
            Err(_) => with_baggage(cx.clone(), &TraceContext::extract(headers()).baggage),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

impl TraceContext {
    /// Returns the context of an OpenTelemetry span, without its parent and baggage; `None` if the span is invalid.
    pub fn from_span_context(span: &SpanContext) -> Option<Self> {
        let trace_id = TraceId::from_bytes(span.trace_id().to_bytes())?;
        let span_id = SpanId::from_bytes(span.span_id().to_bytes())?;
        let tracestate = Tracestate::parse([&*span.trace_state().header()]).unwrap_or_default();
        let flags = TraceFlags::from_bits(span.trace_flags().to_u8());
        Some(Self { tracestate, ..Self::new(trace_id, span_id, flags) })
    }
}

/// Returns the caller's span. A `tracestate` with keys that OpenTelemetry does not know is left out.
impl From<&TraceContext> for SpanContext {
    fn from(context: &TraceContext) -> Self {
        Self::new(
            otel::TraceId::from_bytes(context.trace_id.to_bytes()),
            otel::SpanId::from_bytes(context.span_id.to_bytes()),
            otel::TraceFlags::new(context.flags.bits()),
            true,
            TraceState::from_key_value(context.tracestate.iter()).unwrap_or_default(),
        )
    }
}

impl From<&BaggageEntry> for KeyValueMetadata {
    fn from(entry: &BaggageEntry) -> Self {
        Self::new(entry.key.clone(), entry.value.clone(), entry.properties.as_deref().unwrap_or_default())
    }
}

impl Baggage {
    /// Returns the baggage of an OpenTelemetry context, sorted by key.
    fn from_context(cx: &Context) -> Self {
        let mut baggage = Self::default();
        let mut entries: Vec<_> = cx.baggage().iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.as_str());
        for (key, (value, metadata)) in entries {
            // OpenTelemetry's limits are the same.
            let _ = baggage.insert_with(key.as_str(), value.as_str(), Some(metadata.as_str()));
        }
        baggage
    }
}
