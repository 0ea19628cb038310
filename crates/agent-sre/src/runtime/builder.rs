use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use sre_core::{
    Adapter, AgentEvent, Collect, EventStage, Observe, Persist, RunLimits, SignalHandler, SignalSink, Spool,
};

#[cfg(feature = "http")]
use sre_http::{Outbox, OutboxError, OutboxOptions};

use super::adapters::Adapters;
use super::counters::Counters;
use super::dispatch::Dispatcher;
use super::{ADAPTERS, PENDING_SIGNALS, Runtime};
use crate::Format;

/// Builds a [`Runtime`]. The order of calls matters only among stages, among observers and among handlers.
#[derive(Default)]
pub struct RuntimeBuilder {
    adapters: Vec<(String, Box<dyn Adapter>)>,
    adapter_stages: Vec<Box<AdapterStage>>,
    stages: Vec<Arc<dyn EventStage>>,
    observers: Vec<Arc<dyn Observe>>,
    collectors: Vec<Arc<dyn Collect>>,
    persisted: Vec<Arc<dyn Persist>>,
    handlers: Vec<(String, Arc<dyn SignalHandler>)>,
    taps: Vec<Arc<dyn SignalSink>>,
    spool: Option<Arc<dyn Spool>>,
    #[cfg(feature = "http")]
    exports: Vec<Export>,
    #[cfg(feature = "http")]
    start_exporters_later: bool,
    parts: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

/// A stage that is given the name of the adapter.
pub(super) type AdapterStage = dyn Fn(&str, &mut AgentEvent) -> bool + Send + Sync;

#[cfg(feature = "http")]
struct Export {
    exporter: Arc<dyn sre_core::Exporter>,
    http: Arc<dyn sre_core::HttpClient>,
    options: OutboxOptions,
}

/// The error of starting a runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Two adapters, two handlers, two exporters or two parts with saved state have the same name.
    #[error("duplicate name `{0}`")]
    DuplicateName(String),
    /// An exporter's outbox cannot be started.
    #[cfg(feature = "http")]
    #[error(transparent)]
    Export(#[from] OutboxError),
    /// A handler's thread cannot be started.
    #[error("cannot start a handler's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl RuntimeBuilder {
    /// Adds an engine: it observes events, its metrics are collected, and its state is saved.
    #[must_use]
    pub fn engine<E: Observe + Collect + Persist + 'static>(self, engine: Arc<E>) -> Self {
        self.observe(engine.clone()).collect(engine.clone()).persist(engine.clone()).provide(engine)
    }

    /// Adds an observer of events.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observe>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Adds a source of metrics and snapshots.
    #[must_use]
    pub fn collect(mut self, collector: Arc<dyn Collect>) -> Self {
        self.collectors.push(collector);
        self
    }

    /// Adds a part whose state is saved.
    #[must_use]
    pub fn persist(mut self, part: Arc<dyn Persist>) -> Self {
        self.persisted.push(part);
        self
    }

    /// Adds an adapter: [`Runtime::ingest_body`] and [`Runtime::ingest_record`] feed it by its name, which appears in metrics and in
    /// saved state. Its runs time out when the runtime [evaluates](Runtime::evaluate).
    #[must_use]
    pub fn adapter(mut self, name: impl Into<String>, adapter: Box<dyn Adapter>) -> Self {
        self.adapters.push((name.into(), adapter));
        self
    }

    /// Adds an adapter for every format of this build, by the format's name, with its [share](Format::limits) of the limits.
    #[must_use]
    pub fn formats(self, limits: RunLimits) -> Self {
        Format::all()
            .fold(self, |builder, format| builder.adapter(format.as_str(), format.adapter(format.limits(limits))))
    }

    /// Adds a stage for the events of adapters, which is given the adapter's name. It runs before all other [stages](Self::stage), and
    /// drops an event by returning false, too.
    #[must_use]
    pub fn adapter_stage(mut self, stage: impl Fn(&str, &mut AgentEvent) -> bool + Send + Sync + 'static) -> Self {
        self.adapter_stages.push(Box::new(stage));
        self
    }

    /// Adds a stage that changes events before observers see them. Stages run in the order in which they were added.
    #[must_use]
    pub fn stage(mut self, stage: Arc<dyn EventStage>) -> Self {
        self.stages.push(stage);
        self
    }

    /// Adds a signal handler. Its name appears in metrics and identifies its queue in the spool.
    #[must_use]
    pub fn handle(mut self, name: impl Into<String>, handler: Arc<dyn SignalHandler>) -> Self {
        self.handlers.push((name.into(), handler));
        self
    }

    /// Adds a sink that receives every signal immediately, on the thread that raises it, including repeats. It must be
    /// quick.
    #[must_use]
    pub fn tap(mut self, sink: Arc<dyn SignalSink>) -> Self {
        self.taps.push(sink);
        self
    }

    /// Sets the spool for one-off signals that do not fit into the queue of a slow handler. Without a spool they are
    /// dropped and counted.
    #[must_use]
    pub fn spool(mut self, spool: Arc<dyn Spool>) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Adds an exporter with an outbox of its own. It receives events, and metrics and snapshots of everything in the
    /// runtime, as it [wants](sre_core::Exporter::wants) them. Without a spool in `options`, it uses that of the
    /// runtime.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn export(
        mut self,
        exporter: Arc<dyn sre_core::Exporter>,
        http: Arc<dyn sre_core::HttpClient>,
        options: OutboxOptions,
    ) -> Self {
        self.exports.push(Export { exporter, http, options });
        self
    }

    /// Lets the exporters wait until [`Runtime::start_exporters`], because another runtime still sends from the same spool.
    #[cfg(feature = "http")]
    #[must_use]
    pub const fn start_exporters_later(mut self) -> Self {
        self.start_exporters_later = true;
        self
    }

    /// Makes a part available by its type, through [`Runtime::get`].
    #[must_use]
    pub fn provide<T: Send + Sync + 'static>(mut self, part: Arc<T>) -> Self {
        self.parts.entry(TypeId::of::<T>()).or_insert(part);
        self
    }

    /// Returns the first part of that type that was added or provided.
    #[cfg(all(feature = "slo", feature = "trace"))]
    pub(crate) fn part<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.parts.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Builds the runtime and starts the handlers' threads.
    pub fn build(mut self) -> Result<Runtime, RuntimeError> {
        let mut names = BTreeSet::from([ADAPTERS.to_owned(), PENDING_SIGNALS.to_owned()]);
        let adapters = self.adapters.iter().map(|(name, _)| format!("adapter {name}"));
        let handlers = self.handlers.iter().map(|(name, _)| format!("handler {name}"));
        let persisted = self.persisted.iter().map(|part| part.name().into_owned());
        #[cfg(feature = "http")]
        let exporters = self.exports.iter().map(|export| format!("exporter {}", export.exporter.name()));
        #[cfg(not(feature = "http"))]
        let exporters = std::iter::empty();
        if let Some(twice) =
            adapters.chain(handlers).chain(persisted).chain(exporters).find(|name| !names.insert(name.clone()))
        {
            return Err(RuntimeError::DuplicateName(twice));
        }
        let (adapters, counters) =
            (Arc::new(Adapters::new(std::mem::take(&mut self.adapters))), Arc::new(Counters::default()));
        self.collectors.extend([adapters.clone() as Arc<dyn Collect>, counters.clone()]);
        #[cfg(feature = "http")]
        let outboxes = self.start_outboxes()?;
        let (dispatcher, threads) = Dispatcher::start(self.handlers, self.taps, self.spool)?;
        counters.dispatcher.get_or_init(|| dispatcher.clone());
        for observer in &self.observers {
            observer.connect(dispatcher.clone());
        }
        Ok(Runtime {
            adapters,
            adapter_stages: self.adapter_stages,
            stages: self.stages,
            observers: self.observers,
            collectors: self.collectors,
            #[cfg(feature = "http")]
            outboxes,
            persisted: self.persisted,
            parts: self.parts,
            dispatcher,
            threads,
            counters,
            reasserted: AtomicI64::new(i64::MIN),
        })
    }

    /// Starts the outbox of every exporter, and collects its metrics.
    #[cfg(feature = "http")]
    fn start_outboxes(&mut self) -> Result<Vec<Arc<Outbox>>, RuntimeError> {
        let collectors = self.collectors.clone();
        let start = |Export { exporter, http, mut options }: Export| {
            options.collect.extend(collectors.iter().cloned());
            options.spool = options.spool.or_else(|| self.spool.clone());
            let outbox = Outbox::without_thread(exporter, http, options)?;
            if !self.start_exporters_later {
                outbox.start_thread()?;
            }
            Ok(Arc::new(outbox))
        };
        let outboxes =
            std::mem::take(&mut self.exports).into_iter().map(start).collect::<Result<Vec<_>, OutboxError>>()?;
        self.collectors.extend(outboxes.iter().map(|outbox| outbox.clone() as Arc<dyn Collect>));
        Ok(outboxes)
    }
}
