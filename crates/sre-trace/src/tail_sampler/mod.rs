mod calls;
mod encoded_spans;
mod open_traces;
mod saved;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Event, EventSpan, Metric, MetricUnit, Observe, Signal, Span, Timestamp, TraceLimits,
    TraceStore, TraceUpdate, Verdict,
};

use self::open_traces::OpenTraces;

/// Keeps the traces of tasks that were bad or slow by an objective, and forgets the others: an engine for *tail sampling*.
///
/// It holds the spans of events ([`Span::of`]) in memory while their tasks run, for at most 15 minutes, and 30 s longer, or 15 minutes
/// if they are kept. A trace in which [`mark`](Self::mark) counts a bad or slow event is stored at the next evaluation, and so are its
/// later spans. With it are those of up to 4 other traces that have a span with the same [call id](Span::call_id): a peer has lost the
/// trace context between them. For each agent's objective at most 4 more traces a second are kept, and 64 altogether, so that the work
/// is bounded if every task fails. Of a trace, 1,000 spans are kept.
///
/// ```
/// use sre_core::{AgentEvent, Observe, Verdict};
/// use sre_trace::TailSampler;
///
/// let sampler = TailSampler::default();
/// let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","task":"t-1","success":false}"#;
/// let event = AgentEvent::from_json(line)?;
/// sampler.observe(&event, &mut |_| {});
/// sampler.mark(&event, "answers", "support", Verdict::Bad);
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
#[derive(Default)]
pub struct TailSampler {
    options: TailSamplerOptions,
    store: OnceLock<Arc<dyn TraceStore>>,
    state: Mutex<State>,
    counters: Counters,
}

/// What a [`TailSampler`] keeps, and how much memory it may take.
///
/// Later versions may have more fields: end with `..TailSamplerOptions::default()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailSamplerOptions {
    /// How many traces are kept. The store keeps to it, too.
    pub limits: TraceLimits,
    /// Memory of the spans of tasks that run, in bytes; 8 MiB. Beyond it, the traces of finished tasks give way, and then the oldest.
    pub max_open_bytes: usize,
    /// Whether spans have the texts of errors, which may repeat what people and models wrote; false by default. Without it, the error
    /// of a span is `failed`.
    pub texts: bool,
}

impl TailSamplerOptions {
    /// Returns whether any traces are kept.
    pub const fn keeps_traces(&self) -> bool {
        self.limits.bad_per_objective > 0 || self.limits.slow_per_objective > 0
    }
}

impl Default for TailSamplerOptions {
    fn default() -> Self {
        Self { limits: TraceLimits::default(), max_open_bytes: 8 << 20, texts: false }
    }
}

#[derive(Debug)]
struct State {
    open: OpenTraces,
    /// The number of evaluations.
    now: u64,
    /// The traces kept since then.
    admitted: Admitted,
}

/// The number of traces that are kept between two evaluations, by objective and agent.
#[derive(Debug, Default)]
struct Admitted {
    by_objective: BTreeMap<(String, String), u32>,
    altogether: u32,
}

impl Admitted {
    /// Counts one more trace of an objective, unless there are too many.
    fn admit(&mut self, slo: &str, agent: &str) -> bool {
        if self.altogether >= ALTOGETHER {
            return false;
        }
        let of_objective = self.by_objective.entry((slo.to_owned(), agent.to_owned())).or_default();
        let is_admitted = *of_objective < PER_OBJECTIVE;
        *of_objective += u32::from(is_admitted);
        self.altogether += u32::from(is_admitted);
        is_admitted
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new(TailSamplerOptions::default().max_open_bytes)
    }
}

impl State {
    fn new(max_open_bytes: usize) -> Self {
        Self { open: OpenTraces::new(max_open_bytes), now: 0, admitted: Admitted::default() }
    }
}

#[derive(Debug, Default)]
struct Counters {
    kept_bad: AtomicU64,
    kept_slow: AtomicU64,
    skipped: AtomicU64,
    evicted: AtomicU64,
    dropped_spans: AtomicU64,
    write_failures: AtomicU64,
}

/// Traces that are kept between two evaluations: for an agent's objective, and altogether.
const PER_OBJECTIVE: u32 = 4;
const ALTOGETHER: u32 = 64;

/// The error of a failed span, if the texts of errors are not kept.
const FAILED: &str = "failed";

impl TailSampler {
    /// Creates a sampler, which keeps nothing until it has a [store](Self::set_store).
    pub fn new(options: TailSamplerOptions) -> Self {
        let state = Mutex::new(State::new(options.max_open_bytes));
        Self { options, state, ..Self::default() }
    }

    /// Sets the store. A second one is ignored.
    pub fn set_store(&self, store: Arc<dyn TraceStore>) {
        let _ = self.store.set(store);
    }

    /// Keeps the trace of an event that was observed, because it is bad or slow by an objective of an agent.
    pub fn mark(&self, event: &AgentEvent, slo: &str, agent: &str, verdict: Verdict) {
        if self.options.limits.per_objective(verdict) == 0 {
            return;
        }
        let Some(EventSpan { trace_id, .. }) = EventSpan::of(event) else { return };
        let mut guard = lock(&self.state);
        let State { open, admitted, .. } = &mut *guard;
        open.mark(trace_id, (slo, agent), verdict, event.time, || {
            let is_admitted = admitted.admit(slo, agent);
            let counter = match (is_admitted, verdict) {
                (false, _) => &self.counters.skipped,
                (true, Verdict::Bad) => &self.counters.kept_bad,
                (true, _) => &self.counters.kept_slow,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            is_admitted
        });
    }

    fn add(&self, span: &Span, is_root: bool) {
        let mut evicted = Vec::new();
        {
            let State { open, now, .. } = &mut *lock(&self.state);
            if !open.add(span, is_root, *now) {
                self.counters.dropped_spans.fetch_add(1, Ordering::Relaxed);
            }
            while let Some(trace) = open.evict() {
                self.counters.evicted.fetch_add(u64::from(trace.was_open), Ordering::Relaxed);
                evicted.extend(trace.update);
            }
        }
        self.store(&evicted);
    }

    /// Stores changes; false if that failed.
    fn store(&self, updates: &[TraceUpdate]) -> bool {
        let Some(store) = self.store.get().filter(|_| !updates.is_empty()) else { return updates.is_empty() };
        let is_stored = store.keep(updates).is_ok();
        self.counters.write_failures.fetch_add(u64::from(!is_stored), Ordering::Relaxed);
        is_stored
    }
}

impl Observe for TailSampler {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        let Some(mut span) = Span::of(event) else { return };
        if !self.options.texts
            && let Some(error) = &mut span.error
        {
            FAILED.clone_into(error);
        }
        let is_root = match event.event {
            Event::TaskFinished(_) => event.parent_span_id.is_none(),
            Event::SpanFinished(_) => span.parent_span_id.is_none(),
            // An event that names neither a trace nor a task has a trace of its own.
            _ => event.trace_id.is_none() && event.native_id.is_none() && event.task.is_none(),
        };
        self.add(&span, is_root);
    }

    fn evaluate(&self, _now: Timestamp, _signals: &mut dyn FnMut(Signal)) {
        let changes = {
            let mut state = lock(&self.state);
            state.now += 1;
            state.admitted = Admitted::default();
            state.open.changes()
        };
        let is_stored = self.store(&changes);
        let mut state = lock(&self.state);
        if !is_stored {
            state.open.restore_changes(changes.iter().filter_map(|update| Some(update.kept.first()?.trace_id)));
        }
        let now = state.now;
        state.open.expire(now);
    }
}

impl Collect for TailSampler {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let (traces, bytes) = {
            let state = lock(&self.state);
            (state.open.len(), state.open.bytes())
        };
        emit(Metric::gauge("sre.traces.open", traces as f64).with_help("Traces whose spans are held in memory."));
        emit(
            Metric::gauge("sre.traces.open.size", bytes as f64)
                .with_unit(MetricUnit::Bytes)
                .with_help("Size of these spans."),
        );
        let Counters { kept_bad, kept_slow, skipped, evicted, dropped_spans, write_failures } = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        for (verdict, counter) in [(Verdict::Bad, kept_bad), (Verdict::Slow, kept_slow)] {
            let labels = [("verdict", verdict.as_str())];
            let kept = Metric::counter("sre.traces.kept", count(counter)).with_labels(&labels);
            emit(kept.with_help("Traces kept for an objective."));
        }
        for (name, counter, help) in [
            (
                "sre.traces.skipped",
                skipped,
                "Bad and slow traces that were not kept, because others of the same second were.",
            ),
            (
                "sre.traces.evicted",
                evicted,
                "Traces that gave way before their task had finished, because memory was full.",
            ),
            ("sre.traces.dropped_spans", dropped_spans, "Spans beyond those that are held of a trace."),
            ("sre.traces.write_failures", write_failures, "Failed writes of kept traces."),
        ] {
            emit(Metric::counter(name, count(counter)).with_help(help));
        }
    }
}

impl fmt::Debug for TailSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailSampler").field("options", &self.options).finish_non_exhaustive()
    }
}
