use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use agent_sre::alerts::ManagerError;
use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalStore, ManualClock, RunLimits, StateError, StoreError, SystemClock, lock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Config;
use crate::api;
use crate::app::AppState;
use crate::batch::Batch;
use crate::engine_set::{EngineSet, EngineSetError};
use crate::listen;
use crate::loaded_config::{LoadError, LoadedConfig};
use crate::pipeline::Pipeline;
use crate::processor::Processor;
use crate::reload as files;
use crate::shared::Shared;

/// A service that runs.
///
/// ```no_run
/// # async fn run() -> Result<(), sre_server::StartError> {
/// let server = sre_server::Server::start(sre_server::Config::default()).await?;
/// println!("{}", server.url());
/// server.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    context: Arc<AppState>,
    address: SocketAddr,
    /// True once it is to stop.
    stopping: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// A service that cannot be started; says what to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings, or a file that they name.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// What reads events.
    #[error(transparent)]
    EngineSet(#[from] EngineSetError),
    /// The folder for its data.
    #[error("{}: {source}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// What the journal holds.
    #[error("{}: {source}: start with another folder, or with the version that wrote it", path.display())]
    State {
        /// Which journal.
        path: PathBuf,
        /// Why.
        source: StateError,
    },
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// Another process holds what it needs, and may be done later.
    fn is_locked(&self) -> bool {
        match self {
            Self::Journal(error)
            | Self::EngineSet(EngineSetError::History(error) | EngineSetError::Alerts(ManagerError::Store(error))) => {
                error.is_locked()
            }
            _ => false,
        }
    }
}

impl Server {
    /// Listens, and takes up what an earlier run has left. While it does that, and as long as another process holds the
    /// folder's files, whoever asks is told to try again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check_access()?;
        let config = Arc::new(config);
        let (tls, acceptor) = watch::channel(config.acceptor()?);
        let address = config.listen;
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let address = listener.local_addr()?;
        let (stopping, stop) = watch::channel(false);
        let is_locked = Arc::new(AtomicBool::new(false));
        let (routes, router) = watch::channel(api::starting(is_locked.clone()));
        let listening = tokio::spawn(listen::serve(listener, acceptor, router, config.server_limits, stop.clone()));
        let (shared, pipeline) = match recover_when_free(&config, &is_locked).await {
            Ok(recovered) => recovered,
            Err(error) => {
                let _ = stopping.send(true);
                let _ = listening.await;
                return Err(error);
            }
        };
        let context = Arc::new(AppState::new(config, tls, shared, pipeline, stop.clone()));
        let _ = routes.send_replace(api::router(context.clone()));
        let tasks = vec![
            listening,
            tokio::spawn(api::publish(context.clone(), stop.clone())),
            tokio::spawn(files::reload_on_change(context.clone(), stop)),
        ];
        Ok(Self { context, address, stopping, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an address for a browser.
    pub fn url(&self) -> String {
        let scheme = if self.context.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How many objectives it holds agents to.
    pub fn objectives(&self) -> usize {
        self.context.shared.engines().exhaustion_actions.len()
    }

    /// Reads the files that the settings name again. Where one is wrong, everything stays as it was, and the error says why.
    pub async fn reload(&self) -> Result<(), String> {
        self.context.reload().await
    }

    /// Takes no more requests, answers those that are under way, and writes down what came of everything.
    pub async fn stop(self) {
        self.context.shared.is_stopping.store(true, Ordering::Relaxed);
        let _ = self.stopping.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        let context = self.context;
        let _ = tokio::task::spawn_blocking(move || {
            context.pipeline.stop();
            let engines = context.shared.engines();
            engines.runtime.flush(Duration::from_secs(3));
            engines.alerts.flush(Duration::from_secs(3));
        })
        .await;
    }
}

/// How long to wait before looking again whether another process still holds the files.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes up what an earlier run has left in its folder, once no other process holds it.
async fn recover_when_free(
    config: &Arc<Config>,
    is_locked: &AtomicBool,
) -> Result<(Arc<Shared>, Pipeline), StartError> {
    loop {
        let config = config.clone();
        let recovering = tokio::task::spawn_blocking(move || recover(&config));
        match recovering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            Err(error) if error.is_locked() => {
                if !is_locked.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{error}: waiting for the process that holds it");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            recovered => return recovered,
        }
    }
}

fn recover(config: &Config) -> Result<(Arc<Shared>, Pipeline), StartError> {
    let rules = LoadedConfig::load(config)?;
    let in_data = |source| StartError::Data { path: config.data.clone(), source };
    std::fs::create_dir_all(&config.data).map_err(in_data)?;
    let path = config.data.join(SqliteJournal::DEFAULT_FILE);
    let journal = Arc::new(SqliteJournal::open(&path, config.server_limits.max_journal)?);
    let now = SystemClock.now();
    let clock = Arc::new(ManualClock::new(now));
    let server_limits = &config.server_limits;
    let engines = EngineSet::start(rules, &config.data, server_limits.max_agents, clock.clone())?;
    engines.deliver().map_err(EngineSetError::from)?;
    let shared = Arc::new(Shared::new(engines, clock));
    let limits = RunLimits { task_timeout: server_limits.task_timeout, max_open_runs: server_limits.max_open_runs };
    let mut engine = Processor::new(shared.clone(), limits);
    let mut last = 0;
    if let Some((covered, state)) = journal.snapshot()? {
        engine.restore(&state).map_err(|source| StartError::State { path: path.clone(), source })?;
        last = covered;
        shared.journal.covered.store(covered, Ordering::Relaxed);
    }
    let (last, engine) = replay(&*journal, last, engine)?;
    shared.journal.last.store(last, Ordering::Relaxed);
    let pipeline = Pipeline::start(engine, journal, config.server_limits.snapshot_after)?;
    Ok((shared, pipeline))
}

/// Takes in what came after the snapshot: one thread reads, another takes in.
fn replay(journal: &dyn JournalStore, after: u64, mut engine: Processor) -> Result<(u64, Processor), StoreError> {
    let mut last = after;
    let shared = engine.shared.clone();
    std::thread::scope(|scope| {
        let (batches, read) = sync_channel::<Batch>(64);
        let taking = scope.spawn(move || {
            read.into_iter().for_each(|batch| drop(engine.take(batch)));
            engine
        });
        journal.replay(after, &mut |number, entry| {
            last = number;
            let batch = Batch::from_entry(&entry).map_err(|error| error.to_string());
            match batch.and_then(|batch| batch.decode(&shared).map_err(|error| error.to_string())) {
                Ok(batch) => batches.send(batch).is_ok(),
                Err(error) => {
                    tracing::error!(number, error, "an entry of the journal cannot be read, and is passed over");
                    true
                }
            }
        })?;
        drop(batches);
        let engine = taking.join().map_err(|_| {
            StoreError::unavailable("journal", format!("replaying the entries after {after} panicked: this is a bug"))
        })?;
        Ok((last, engine))
    })
}

impl AppState {
    /// Reads the files that the settings name again.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload().await;
        *lock(&self.shared.config_error) = outcome.as_ref().err().cloned();
        outcome
    }

    async fn try_reload(&self) -> Result<(), String> {
        let (own, clock) = (self.config.clone(), self.shared.clock.clone());
        let read = tokio::task::spawn_blocking(move || read_again(&own, clock));
        let (settings, acceptor, engines) = read.await.unwrap_or_else(|error| Err(error.to_string()))?;
        self.pipeline.replace(engines).await.unwrap_or_else(|_| Err("the service is about to stop".to_owned()))?;
        self.tls.send_replace(acceptor);
        self.change_settings(settings);
        Ok(())
    }
}

fn read_again(own: &Config, clock: Arc<ManualClock>) -> Result<(Config, Option<TlsAcceptor>, EngineSet), String> {
    let settings = match &own.file {
        Some(file) => Config::load(file).map_err(|error| error.to_string())?,
        None => own.clone(),
    };
    let settings = keep_own(settings, own);
    let (rules, acceptor) = settings.read().map_err(|error| error.to_string())?;
    let engines =
        EngineSet::start(rules, &own.data, own.server_limits.max_agents, clock).map_err(|error| error.to_string())?;
    Ok((settings, acceptor, engines))
}

/// What a running service cannot change stays: its address, its folder, its server_limits, and whether it speaks TLS.
fn keep_own(changed: Config, own: &Config) -> Config {
    let is_same_tls = changed.tls.is_some() == own.tls.is_some();
    if !is_same_tls
        || (changed.listen, &changed.data, changed.server_limits) != (own.listen, &own.data, own.server_limits)
    {
        tracing::warn!("`listen`, `data`, `tls` or a bound has changed: that takes a restart");
    }
    Config {
        listen: own.listen,
        data: own.data.clone(),
        server_limits: own.server_limits,
        tls: if is_same_tls { changed.tls } else { own.tls.clone() },
        slos: if own.slos_given { own.slos.clone() } else { changed.slos },
        slos_given: own.slos_given,
        ..changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_let_everybody_in_are_not_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sre.yaml");
        let token = |scope| format!("  - {{name: a, scope: {scope}, sha256: {}}}\n", "0f".repeat(32));
        let guarded = format!("listen: 0.0.0.0:4318\ntokens:\n{}{}", token("ingest"), token("read"));
        std::fs::write(&file, &guarded).unwrap();
        let own = Config::load(&file).unwrap();
        let read = || read_again(&own, Arc::new(ManualClock::new(SystemClock.now()))).map(|(settings, ..)| settings);
        std::fs::create_dir(&own.data).unwrap();
        assert_eq!(read().unwrap().tokens, own.tokens);
        for text in
            ["listen: 0.0.0.0:4318\n".to_owned(), guarded.replace("read", "ingest"), "listen: 127.0.0.1:1".to_owned()]
        {
            std::fs::write(&file, &text).unwrap();
            let error = read().expect_err("everybody could come in");
            assert!(error.contains("`tokens` are needed for both scopes"), "{text}: {error}");
        }
    }
}
