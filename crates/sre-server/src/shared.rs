use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use agent_sre::adapter::{AdapterError, AdapterStats, Body, Decoder, RunLimits};
use agent_sre::{Clock, Format, ManualClock, Timestamp};

use crate::engine_set::EngineSet;
use crate::history::History;
use crate::processor::Counts;

/// What those who take in and those who answer have in common.
pub(crate) struct Shared {
    /// Replaced as a whole when the rules change.
    engines: RwLock<Arc<EngineSet>>,
    pub(crate) counts: Counts,
    pub(crate) adapters: Mutex<Vec<(Format, AdapterStats)>>,
    /// How to read a body on any thread, for the formats where that pays.
    decoders: Vec<(Format, Decoder)>,
    pub(crate) history: Mutex<History>,
    pub(crate) journal: JournalHealth,
    /// Data points of metrics and log records that came and are of no use here.
    pub(crate) unused: AtomicU64,
    /// Requests that were refused because too much was under way.
    pub(crate) refused: AtomicU64,
    /// The last error in the files that the settings name; they were left as they had been.
    pub(crate) config_error: Mutex<Option<String>>,
    /// The time by which costs are counted: that of the batch which is taken in, also when the journal is read again.
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) started: Timestamp,
    pub(crate) is_stopping: AtomicBool,
    /// What was sent is kept, and comes to nothing before a restart.
    pub(crate) is_engine_gone: AtomicBool,
}

/// How the journal gets on.
#[derive(Debug, Default)]
pub(crate) struct JournalHealth {
    /// Why the last write failed; `None` while it works.
    pub(crate) failure: Mutex<Option<String>>,
    pub(crate) failures: AtomicU64,
    /// The number of the last entry.
    pub(crate) last: AtomicU64,
    /// The number of the last entry that the snapshot covers.
    pub(crate) covered: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(engines: EngineSet, clock: Arc<ManualClock>) -> Self {
        let decoder = |format: Format| Some((format, format.adapter(RunLimits::default()).decoder()?));
        Self {
            decoders: Format::all().filter_map(decoder).collect(),
            engines: RwLock::new(Arc::new(engines)),
            counts: Counts::default(),
            adapters: Mutex::default(),
            history: Mutex::default(),
            journal: JournalHealth::default(),
            unused: AtomicU64::default(),
            refused: AtomicU64::default(),
            config_error: Mutex::default(),
            started: clock.now(),
            clock,
            is_stopping: AtomicBool::default(),
            is_engine_gone: AtomicBool::default(),
        }
    }

    /// Reads a body as far as that needs no adapter's state.
    pub(crate) fn decode(&self, format: Format, body: Body) -> Result<Body, AdapterError> {
        match self.decoders.iter().find(|(known, _)| *known == format) {
            Some((_, decode)) => decode(body),
            None => Ok(body),
        }
    }

    pub(crate) fn engines(&self) -> Arc<EngineSet> {
        self.engines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other engines in the place of the present ones, which are returned.
    pub(crate) fn replace(&self, engines: EngineSet) -> Arc<EngineSet> {
        std::mem::replace(&mut *self.engines.write().unwrap_or_else(PoisonError::into_inner), Arc::new(engines))
    }
}
