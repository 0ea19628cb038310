#[cfg(any(feature = "a2a-server", feature = "rmcp"))]
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sre_core::Clock;
#[cfg(any(feature = "a2a-server", feature = "rmcp"))]
use sre_core::SpanId;
use sre_core::adapter::EventSink;
use sre_core::private::lock;

use crate::bridge::{LibrarySpan, SpanBridge};
use crate::context::TraceContext;
use crate::record::SpanRecord;
use crate::span_buffer::SpanBuffer;

/// What a tracer shares with those below it, and with its spans.
pub(crate) struct Shared {
    pub(crate) agent_id: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Option<Arc<dyn EventSink>>,
    pub(crate) bridge: Option<Arc<dyn SpanBridge>>,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) finished: SpanBuffer,
    /// The positions below spans that have not ended, for requests that name one by its context alone.
    #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
    positions: HashMap<SpanId, Position>,
}

/// Where calls begin.
#[derive(Clone)]
pub(crate) struct Position {
    pub(crate) context: TraceContext,
    pub(crate) place: Place,
    /// The task to which the events of calls belong.
    pub(crate) task: Option<Arc<str>>,
}

#[derive(Clone)]
pub(crate) enum Place {
    /// At the top of a trace: the span of the context does not exist.
    Top,
    /// Below a span of another process or library.
    Remote,
    /// Below a span of this tracer.
    Local(Option<LibrarySpan>),
}

impl State {
    pub(crate) fn new(finished: SpanBuffer) -> Self {
        Self {
            finished,
            #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
            positions: HashMap::new(),
        }
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Makes the position below a span, which has not ended, known to [`position_below`](Self::position_below).
    #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
    pub(crate) fn register(&self, position: Position) {
        self.state().positions.insert(position.context.span_id, position);
    }

    /// Returns the position below the span of a context: of this process if it is registered, or else of another.
    #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
    pub(crate) fn position_below(&self, context: TraceContext) -> Position {
        let local = self.state().positions.get(&context.span_id).cloned();
        let local = local.filter(|position| position.context.trace_id == context.trace_id);
        local.unwrap_or(Position { context, place: Place::Remote, task: None })
    }

    /// Keeps a span that has ended, if its trace is sampled.
    pub(crate) fn finish(&self, record: Box<SpanRecord>, is_sampled: bool) {
        let mut state = self.state();
        #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
        let position = if state.positions.is_empty() { None } else { state.positions.remove(&record.span.span_id) };
        if is_sampled {
            state.finished.push(record);
        }
        drop(state);
        // The span of a library may end with it, and its exporter must not wait for the lock.
        #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
        drop(position);
    }
}
