use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalStore, ManualClock, RunLimits, StateError, StoreError, SystemClock, lock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Config;
use crate::api::{self, Context};
use crate::batch::Batch;
use crate::engine::Engine;
use crate::engines::{Engines, EnginesError};
use crate::listen;
use crate::pipeline::Pipeline;
use crate::rules::{Rules, RulesError};
use crate::shared::Shared;
use crate::watch as files;

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
    context: Arc<Context>,
    address: SocketAddr,
    /// True once it is to stop.
    stopping: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// A service that cannot be started; says what to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file that the settings name.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// What reads events.
    #[error(transparent)]
    Engines(#[from] EnginesError),
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
    /// An address that others reach, without tokens.
    #[error(
        "`listen: {0}`: others reach this address, so that `tokens` are needed for both scopes \
         (`sre config token` makes them); expected them, or an address of this machine's own such as 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The certificate.
    #[error("{0}")]
    Tls(String),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Server {
    /// Takes up what an earlier run has left, and listens.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let has = |scope| config.tokens.iter().any(|token| token.scope == scope);
        let is_guarded = has(crate::Scope::Ingest) && has(crate::Scope::Read);
        if !config.listen.ip().is_loopback() && !is_guarded {
            return Err(StartError::Open(config.listen));
        }
        let tls =
            config.tls.as_ref().map(listen::tls).transpose().map_err(|error| StartError::Tls(error.to_string()))?;
        let address = config.listen;
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let address = listener.local_addr()?;
        let recovering = tokio::task::spawn_blocking(move || recover(config));
        let (config, shared, pipeline) =
            recovering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let (stopping, stop) = watch::channel(false);
        let context = Arc::new(Context::new(config, shared, pipeline, stop.clone()));
        let tasks = vec![
            tokio::spawn(listen::serve(
                listener,
                tls,
                api::router(context.clone()),
                context.config.bounds,
                stop.clone(),
            )),
            tokio::spawn(crate::live::publish(context.clone(), stop.clone())),
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
            context.shared.engines().alerts.flush(Duration::from_secs(3));
        })
        .await;
    }
}

/// Takes up what an earlier run has left in its folder.
fn recover(config: Config) -> Result<(Config, Arc<Shared>, Pipeline), StartError> {
    let rules = Rules::load(&config)?;
    let in_data = |source| StartError::Data { path: config.data.clone(), source };
    std::fs::create_dir_all(&config.data).map_err(in_data)?;
    let path = config.data.join(SqliteJournal::DEFAULT_FILE);
    let journal = Arc::new(SqliteJournal::open(&path, config.bounds.max_journal)?);
    let now = SystemClock.now();
    let clock = Arc::new(ManualClock::new(now));
    let bounds = &config.bounds;
    let engines = Engines::start(rules, &config.data, bounds.max_agents, clock.clone())?;
    let shared = Arc::new(Shared::new(engines, clock));
    let limits = RunLimits { task_timeout: bounds.task_timeout, max_open_runs: bounds.max_open_runs };
    let mut engine = Engine::new(shared.clone(), limits);
    let mut last = 0;
    if let Some((covered, state)) = journal.snapshot()? {
        engine.restore(&state).map_err(|source| StartError::State { path: path.clone(), source })?;
        last = covered;
        shared.journal.covered.store(covered, Ordering::Relaxed);
    }
    let (last, engine) = replay(&*journal, last, engine)?;
    shared.journal.last.store(last, Ordering::Relaxed);
    let pipeline = Pipeline::start(engine, journal, config.bounds.snapshot_after)?;
    Ok((config, shared, pipeline))
}

/// Takes in what came after the snapshot: one thread reads, another takes in.
fn replay(journal: &dyn JournalStore, after: u64, mut engine: Engine) -> Result<(u64, Engine), StoreError> {
    let mut last = after;
    std::thread::scope(|scope| {
        let (batches, read) = sync_channel::<Batch>(64);
        let taking = scope.spawn(move || {
            read.into_iter().for_each(|batch| drop(engine.take(batch)));
            engine
        });
        journal.replay(after, &mut |number, entry| {
            last = number;
            match Batch::from_entry(&entry) {
                Ok(batch) => batches.send(batch).is_ok(),
                Err(error) => {
                    tracing::error!(number, %error, "an entry of the journal cannot be read, and is passed over");
                    true
                }
            }
        })?;
        drop(batches);
        let engine = taking.join().map_err(|_| StoreError {
            store: "the journal".to_owned(),
            reason: format!("what stands there after entry {after} cannot be taken in: this is a bug of ours"),
        })?;
        Ok((last, engine))
    })
}

impl Context {
    /// Reads the files that the settings name again.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let settings = match &self.config.file {
            Some(file) => Config::load(file).map_err(|error| error.to_string()),
            None => Ok(self.config.clone()),
        };
        let changed = settings.map(|settings| self.keeping_own(settings));
        let (data, bounds, clock) = (self.config.data.clone(), self.config.bounds, self.shared.clock.clone());
        let started = match changed {
            Ok(settings) => tokio::task::spawn_blocking(move || {
                let rules = Rules::load(&settings).map_err(|error| error.to_string())?;
                let engines = Engines::start(rules, &data, bounds.max_agents, clock).map_err(|error| error.to_string());
                engines.map(|engines| (settings, engines))
            })
            .await
            .unwrap_or_else(|error| Err(error.to_string())),
            Err(error) => Err(error),
        };
        let outcome = match started {
            Ok((settings, engines)) => {
                *lock(&self.tokens) = settings.tokens;
                self.pipeline.replace(engines).await.map_err(|_| "the service is about to stop".to_owned())
            }
            Err(error) => Err(error),
        };
        *lock(&self.shared.rules_error) = outcome.as_ref().err().cloned();
        outcome
    }

    /// What a running service cannot change stays: its address, its folder, its certificate and its bounds.
    fn keeping_own(&self, changed: Config) -> Config {
        let own = &self.config;
        if (changed.listen, &changed.data, changed.bounds) != (own.listen, &own.data, own.bounds) {
            tracing::warn!("`listen`, `data` and bounds have changed: that takes a restart");
        }
        Config { slos: if own.slos_given { own.slos.clone() } else { changed.slos }, ..changed }
    }
}
