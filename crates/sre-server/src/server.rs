use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::private::lock;
use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalStore, SystemClock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::api::{self, StartPhase};
use crate::app::AppState;
use crate::body_memory::BodyMemory;
use crate::event_checks::EventChecks;
use crate::exporter_log::log_exporters;
use crate::listen;
use crate::pipeline::Pipeline;
use crate::processor::Processor;
use crate::reload::reload_on_change;
use crate::replay::replay;
use crate::service_time::Clocks;
use crate::shared::Shared;
use crate::{Config, StartError};

/// A running service.
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
    state: Arc<AppState>,
    address: SocketAddr,
    /// True once the service is stopping.
    stopping: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens, and recovers the state that an earlier run left in the data folder. Until that is done, and while another process
    /// holds the folder's files or its disk is full, requests are answered with 503 and `Retry-After`.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, the address is in use, or the state cannot be recovered.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with_clock(config, Arc::new(SystemClock)).await
    }

    /// Starts the service with a clock of its own, such as one that a test sets.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`start`](Self::start).
    pub async fn start_with_clock(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        config.check_access()?;
        let config = Arc::new(config);
        let (tls, acceptor) = watch::channel(config.acceptor()?);
        let address = config.listen;
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let address = listener.local_addr()?;
        let (stopping, stop) = watch::channel(false);
        let phase = Arc::new(Mutex::new(StartPhase::default()));
        let (routes, router) = watch::channel(api::starting(phase.clone()));
        let admission = Arc::new(Admission::new(&config));
        let client_timeout = config.server_limits.client_timeout;
        let listening = listen::serve(listener, acceptor, router, admission.clone(), client_timeout, stop.clone());
        let listening = tokio::spawn(listening);
        let (shared, pipeline) = match recover_when_possible(&config, &clock, &phase).await {
            Ok(recovered) => recovered,
            Err(error) => {
                let _ = stopping.send(true);
                let _ = listening.await;
                return Err(error);
            }
        };
        let state = Arc::new(AppState::new(config, tls, admission, shared, pipeline, stop.clone()));
        let _ = routes.send_replace(api::router(state.clone()));
        let tasks = vec![
            listening,
            tokio::spawn(api::publish(state.clone(), stop.clone())),
            tokio::spawn(log_exporters(state.clone(), stop.clone())),
            tokio::spawn(reload_on_change(state.clone(), stop)),
        ];
        Ok(Self { state, address, stopping, tasks })
    }

    /// Returns the address that the service listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the page.
    pub fn url(&self) -> String {
        let scheme = if self.state.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the number of objectives.
    pub fn objectives(&self) -> usize {
        self.state.shared.engines().exhaustion_actions.len()
    }

    /// Reloads the configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is invalid; the previous configuration stays in force.
    pub async fn reload(&self) -> Result<(), String> {
        self.state.reload().await
    }

    /// Stops the service: accepts no more requests, completes those in progress, and saves the state.
    pub async fn stop(self) {
        self.state.shared.is_stopping.store(true, Ordering::Relaxed);
        let _ = self.stopping.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        let state = self.state;
        let _ = tokio::task::spawn_blocking(move || {
            state.pipeline.stop();
            let engines = state.shared.engines();
            engines.runtime.flush(Duration::from_secs(3));
            engines.alerts.flush(Duration::from_secs(3));
        })
        .await;
    }
}

/// Time between two attempts while another process holds the files, or the disk is full.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Recovers the state in the data folder, once no other process holds it and its disk has room.
async fn recover_when_possible(
    config: &Arc<Config>,
    clock: &Arc<dyn Clock>,
    phase: &Mutex<StartPhase>,
) -> Result<(Arc<Shared>, Pipeline), StartError> {
    loop {
        let (config, clock) = (config.clone(), clock.clone());
        let recovering = tokio::task::spawn_blocking(move || recover(&config, clock));
        let recovered = recovering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let Some((waits_for, error)) = recovered.as_ref().err().and_then(|error| Some((error.waits_for()?, error)))
        else {
            return recovered;
        };
        if std::mem::replace(&mut *lock(phase), waits_for) != waits_for {
            match waits_for {
                StartPhase::DiskFull => tracing::warn!("Disk of the data folder is full; waiting for space: {error}"),
                _ => tracing::warn!("Data folder in use by another process; waiting for its release: {error}"),
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

fn recover(config: &Config, clock: Arc<dyn Clock>) -> Result<(Arc<Shared>, Pipeline), StartError> {
    let clocks = Clocks::new(clock);
    let prepared = config.prepare(&clocks)?;
    config.create_data_folder()?;
    let path = config.data.join(SqliteJournal::DEFAULT_FILE);
    let journal = Arc::new(SqliteJournal::open(&path, config.server_limits.max_journal)?);
    let checks = Arc::new(EventChecks::new(clocks.engines.clone(), config.server_limits.max_agents));
    let engines = prepared.start(&config.data, checks.clone())?;
    let shared = Arc::new(Shared::new(engines, clocks, checks));
    shared.engines().deliver(&shared.removed_exporters)?;
    let mut processor = Processor::new(shared.clone());
    let mut last = 0;
    if let Some((covered, state)) = journal.snapshot()? {
        processor.restore(&state).map_err(|source| StartError::State { path: path.clone(), source })?;
        last = covered;
        shared.journal.covered.store(covered, Ordering::Relaxed);
    }
    let memory = BodyMemory::of(&config.server_limits);
    let (last, processor) = replay(&journal, last, processor, &memory)?;
    shared.journal.last.store(last, Ordering::Relaxed);
    for damage in journal.damage() {
        tracing::error!("A part of the journal cannot be read and is skipped: {damage}");
        shared.journal.damaged.fetch_add(damage.count, Ordering::Relaxed);
    }
    let pipeline = Pipeline::start(processor, journal, config.server_limits.snapshot_after)?;
    Ok((shared, pipeline))
}
