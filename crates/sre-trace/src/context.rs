use sre_core::{SpanId, TraceId};

use crate::baggage::Baggage;
use crate::traceparent::{InvalidTraceparent, TraceFlags, Traceparent};
use crate::tracestate::{InvalidTracestate, MemberList, Tracestate};

/// A position within a trace: a span, its parent, and what travels with them.
///
/// A service reads the caller's context from a request, makes a [`child`](Self::child) of it for its own work, and writes the child's
/// headers into the requests that it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span: of a context from headers, the caller's.
    pub span_id: SpanId,
    /// The span that caused this one, if it is known.
    pub parent_span_id: Option<SpanId>,
    /// Whether the trace is sampled, and whether its id is random.
    pub flags: TraceFlags,
    /// What tracing systems keep about the trace.
    pub tracestate: Tracestate,
    /// Values that travel with the request.
    pub baggage: Baggage,
}

/// Why headers have no trace context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// No `traceparent` header.
    #[error("found no `traceparent`, expected one")]
    Missing,
    /// More than one `traceparent` header.
    #[error("found {0} `traceparent` headers, expected one")]
    Repeated(usize),
    /// The value of the header is invalid.
    #[error("traceparent: {0}")]
    Invalid(#[from] InvalidTraceparent),
}

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";
/// The headers of a trace context.
pub(crate) const NAMES: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

impl TraceContext {
    /// Creates the context of the first span of a new trace, which is sampled.
    pub fn root() -> Self {
        Self::new(random_trace_id(), random_span_id(), TraceFlags::SAMPLED.union(TraceFlags::RANDOM_TRACE_ID))
    }

    /// Creates a context without a parent, tracestate and baggage.
    pub fn new(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> Self {
        let (tracestate, baggage) = Default::default();
        Self { trace_id, span_id, parent_span_id: None, flags, tracestate, baggage }
    }

    /// Creates the context of a new span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: random_span_id(), parent_span_id: Some(self.span_id), ..self.clone() }
    }

    /// Returns whether the trace is sampled.
    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// Reads the caller's context from the value of a `traceparent` header.
    ///
    /// # Errors
    ///
    /// Returns an error that says what was found and what was expected.
    pub fn from_traceparent(value: &str) -> Result<Self, InvalidTraceparent> {
        let Traceparent { trace_id, span_id, flags } = Traceparent::parse(value)?;
        Ok(Self::new(trace_id, span_id, flags))
    }

    /// Returns the value of the `traceparent` header of a request that this span sends.
    pub fn to_traceparent(&self) -> Traceparent {
        Traceparent { trace_id: self.trace_id, span_id: self.span_id, flags: self.flags }
    }

    /// Reads the caller's context from the headers of a request. Names in any case are recognised. An invalid `tracestate` is dropped as a
    /// whole, of `baggage` what is invalid, as the specifications have it; [`Tracestate::parse`] and [`Baggage::parse`] say why.
    ///
    /// # Errors
    ///
    /// Returns an error if there is not exactly one valid `traceparent`. Begin a new trace then, as [`extract`](Self::extract) does.
    pub fn from_headers<N: AsRef<str>, V: AsRef<[u8]>>(
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, HeaderError> {
        Headers::read(headers).context()
    }

    /// Reads the caller's context from the headers of a request, or begins a new trace if there is none or it is invalid. The baggage is kept
    /// either way.
    pub fn extract<N: AsRef<str>, V: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, V)>) -> Self {
        let headers = Headers::read(headers);
        match headers.traceparent {
            Ok(_) => headers.context().unwrap_or_else(|_| Self::root()),
            Err(_) => Self { baggage: headers.baggage, ..Self::root() },
        }
    }

    /// Returns the headers of a request that this span sends: `traceparent`, and `tracestate` and `baggage` where they have something.
    pub fn to_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![(TRACEPARENT, self.to_traceparent().to_string())];
        if !self.tracestate.is_empty() {
            headers.push((TRACESTATE, self.tracestate.to_string()));
        }
        if !self.baggage.is_empty() {
            headers.push((BAGGAGE, self.baggage.to_string()));
        }
        headers
    }
}

/// The headers of a request that make a context.
pub(crate) struct Headers {
    traceparent: Result<Traceparent, HeaderError>,
    tracestate: Result<MemberList, InvalidTracestate>,
    pub(crate) baggage: Baggage,
}

impl Headers {
    pub(crate) fn read<N: AsRef<str>, V: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, V)>) -> Self {
        let tracestate = Ok(MemberList::default());
        let mut found = Self { traceparent: Err(HeaderError::Missing), tracestate, baggage: Baggage::default() };
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), || String::from_utf8_lossy(value.as_ref()));
            if name.eq_ignore_ascii_case(TRACEPARENT) {
                found.traceparent = match found.traceparent {
                    Err(HeaderError::Missing) => Ok(Traceparent::parse(value().trim_matches([' ', '\t']))),
                    Err(HeaderError::Repeated(times)) => Err(HeaderError::Repeated(times + 1)),
                    _ => Err(HeaderError::Repeated(2)),
                }
                .and_then(|parsed| Ok(parsed?));
            } else if name.eq_ignore_ascii_case(TRACESTATE) {
                found.tracestate = found.tracestate.and_then(|mut list| list.append(&value()).map(|()| list));
            } else if name.eq_ignore_ascii_case(BAGGAGE) {
                found.baggage.append(&value(), &mut drop);
            }
        }
        found
    }

    pub(crate) fn has_context(&self) -> bool {
        self.traceparent.is_ok()
    }

    pub(crate) fn context(self) -> Result<TraceContext, HeaderError> {
        let Traceparent { trace_id, span_id, flags } = self.traceparent?;
        let tracestate = self.tracestate.and_then(MemberList::finish).unwrap_or_default();
        Ok(TraceContext { tracestate, baggage: self.baggage, ..TraceContext::new(trace_id, span_id, flags) })
    }
}

fn random_trace_id() -> TraceId {
    std::iter::repeat_with(|| TraceId::from_bytes(fastrand::u128(..).to_be_bytes())).flatten().next().expect("endless")
}

fn random_span_id() -> SpanId {
    std::iter::repeat_with(|| SpanId::from_bytes(fastrand::u64(..).to_be_bytes())).flatten().next().expect("endless")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn a_child_continues_the_trace_with_all_that_travels() {
        let received = [
            ("TraceParent", PARENT),
            ("tracestate", "rojo=1"),
            ("host", "example"),
            ("TRACESTATE", "congo=2"),
            ("baggage", "tenant=a"),
            ("Baggage", "plan=pro"),
        ];
        let caller = TraceContext::from_headers(received).unwrap();
        let child = caller.child();
        assert_eq!((child.trace_id, child.parent_span_id), (caller.trace_id, Some(caller.span_id)));
        assert!(child.span_id != caller.span_id && !child.is_sampled());
        let headers = child.to_headers();
        assert_eq!(
            headers[1..],
            [("tracestate", "rojo=1,congo=2".to_owned()), ("baggage", "tenant=a,plan=pro".to_owned())]
        );
        let next = TraceContext::from_headers(headers).unwrap();
        assert_eq!((next.trace_id, next.span_id, next.flags), (child.trace_id, child.span_id, child.flags));
    }

    #[test]
    fn a_new_trace_begins_without_a_valid_traceparent_and_keeps_the_baggage() {
        let error = |headers: &[(&str, &str)]| TraceContext::from_headers(headers.iter().copied()).unwrap_err();
        assert_eq!(error(&[("tracestate", "a=1")]), HeaderError::Missing);
        assert_eq!(error(&[("traceparent", PARENT), ("traceparent", PARENT)]), HeaderError::Repeated(2));
        assert_eq!(error(&[("traceparent", "00")]).to_string(), "traceparent: found 2 characters, expected 55");
        let begun = TraceContext::extract([("traceparent", "00"), ("tracestate", "a=1"), ("baggage", "tenant=a")]);
        assert!(begun.is_sampled() && begun.flags.is_trace_id_random() && begun.tracestate.is_empty());
        assert_eq!((begun.parent_span_id, begun.baggage.get("tenant")), (None, Some("a")));
    }

    #[test]
    fn an_invalid_tracestate_is_dropped_and_the_trace_goes_on() {
        let context = TraceContext::from_headers([("traceparent", PARENT), ("tracestate", "a=1,FOO=2")]).unwrap();
        assert_eq!((context.tracestate.as_str(), &*context.to_traceparent().to_text()), ("", PARENT));
    }
}
