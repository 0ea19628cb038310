use std::sync::Mutex;

use sre_core::adapter::{AdapterError, AdapterStats, Decoder};
use sre_core::private::lock;
use sre_core::{Adapter, Collect, Metric, StateError, StateReader, StateWriter, Timestamp};

/// The adapters of a runtime.
pub(super) struct Adapters(Vec<NamedAdapter>);

/// An adapter of a runtime, with the name by which it is fed, saved and measured.
pub(super) struct NamedAdapter {
    pub(super) name: String,
    pub(super) decoder: Option<Decoder>,
    /// Locked from a record until its events are recorded, so that these stay in order.
    adapter: Mutex<Box<dyn Adapter>>,
    /// As of the last call, so that reading them does not wait for a body.
    stats: Mutex<AdapterStats>,
}

/// The error of ingesting a body or a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The runtime has no adapter with this name.
    #[error("found the adapter `{found}`, expected {}", one_of(expected))]
    UnknownAdapter {
        /// The name.
        found: String,
        /// The names of the runtime's adapters.
        expected: Vec<String>,
    },
    /// The adapter panicked. The events that it emitted before are recorded.
    #[error("the adapter `{0}` panicked; please report this bug")]
    Panicked(String),
    /// The adapter cannot read the body or the record.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

fn one_of(names: &[String]) -> String {
    if names.is_empty() {
        "none, because the runtime has no adapter".to_owned()
    } else {
        format!("one of {}", names.join(", "))
    }
}

impl Adapters {
    pub(super) fn new(adapters: Vec<(String, Box<dyn Adapter>)>) -> Self {
        let named = |(name, adapter): (String, Box<dyn Adapter>)| NamedAdapter {
            name,
            decoder: adapter.decoder(),
            stats: Mutex::new(adapter.stats()),
            adapter: Mutex::new(adapter),
        };
        Self(adapters.into_iter().map(named).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &NamedAdapter> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&NamedAdapter> {
        self.iter().find(|adapter| adapter.name == name)
    }

    pub(super) fn find(&self, name: &str) -> Result<&NamedAdapter, IngestError> {
        self.get(name).ok_or_else(|| IngestError::UnknownAdapter {
            found: name.to_owned(),
            expected: self.iter().map(|adapter| adapter.name.clone()).collect(),
        })
    }

    /// Writes a section for each adapter.
    pub(super) fn save(&self, state: &mut StateWriter) {
        for adapter in self.iter() {
            state.section(&adapter.name, |state| lock(&adapter.adapter).save(state));
        }
    }

    /// Restores the section of one adapter; false if none has this name.
    pub(super) fn restore(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        let Some(adapter) = self.get(name) else { return Ok(false) };
        adapter.call(|adapter| adapter.restore(state)).map(|()| true)
    }

    /// Exchanges the adapters that both have.
    pub(super) fn exchange(&self, other: &Self) {
        for (ours, theirs) in self.iter().filter_map(|adapter| Some((adapter, other.get(&adapter.name)?))) {
            std::mem::swap(&mut *lock(&ours.adapter), &mut *lock(&theirs.adapter));
            std::mem::swap(&mut *lock(&ours.stats), &mut *lock(&theirs.stats));
        }
    }
}

impl NamedAdapter {
    /// Calls the adapter, and notes its counters.
    pub(super) fn call<T>(&self, call: impl FnOnce(&mut dyn Adapter) -> T) -> T {
        let mut adapter = lock(&self.adapter);
        let result = call(&mut **adapter);
        *lock(&self.stats) = adapter.stats();
        result
    }

    pub(super) fn stats(&self) -> AdapterStats {
        *lock(&self.stats)
    }
}

impl Collect for Adapters {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        for adapter in self.iter() {
            let (of, stats) = ([("adapter", &*adapter.name)], adapter.stats());
            let open = Metric::gauge("sre.adapter.open_runs", stats.open_runs as f64).with_labels(&of);
            emit(open.with_help("Runs that have started and not ended."));
            for (name, value, help) in [
                ("sre.adapter.evicted_runs", stats.evicted_runs, "Runs closed early because too many were open."),
                ("sre.adapter.unknown_records", stats.unknown, "Records of an unknown kind."),
                (
                    "sre.adapter.unmatched_records",
                    stats.unmatched,
                    "Records that belong to no open run, and calls without an end.",
                ),
                ("sre.adapter.shortened_strings", stats.shortened, "Strings of records that were too long."),
                ("sre.adapter.duplicate_records", stats.repeated, "Records sent again, and counted once."),
            ] {
                emit(Metric::counter(name, value as f64).with_labels(&of).with_help(help));
            }
        }
    }
}
