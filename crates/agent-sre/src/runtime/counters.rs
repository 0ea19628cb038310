use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sre_core::{Collect, Metric, Timestamp};

use super::dispatch::Dispatcher;

/// What a runtime counts itself.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) events: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) shortened: AtomicU64,
    pub(super) panics: AtomicU64,
    /// Set once the handlers have been started, which is after the exporters.
    pub(super) dispatcher: OnceLock<Arc<Dispatcher>>,
}

impl Collect for Counters {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        for (name, counter, help) in [
            ("sre.events", &self.events, "Events that reached the engines."),
            ("sre.stage.dropped_events", &self.dropped, "Events that a stage dropped."),
            ("sre.shortened_strings", &self.shortened, "Strings of events that were too long for the engines."),
            ("sre.panics", &self.panics, "Panics of adapters, stages, engines and collectors."),
        ] {
            emit(Metric::counter(name, counter.load(Ordering::Relaxed) as f64).with_help(help));
        }
        let handlers = self.dispatcher.get().map(|dispatcher| dispatcher.stats()).unwrap_or_default();
        handlers.iter().for_each(|stats| stats.metrics(emit));
    }
}
