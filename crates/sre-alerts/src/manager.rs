use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sre_core::{
    AgentEvent, Alert, AlertChannel, AlertsSnapshot, Observer, Signal, SignalHandler, Snapshot, StoreError, Timestamp,
    lock,
};

use crate::channel_pipeline::ChannelPipeline;
use crate::shared::Shared;
use crate::silence::{InvalidSilence, Silence, SilenceId};
use crate::state::complete;
use crate::worker::Worker;
use crate::{AlertOptions, ChannelConfig, SendReport, Verdict};

/// Takes alerts and gets them to people: once each, in order, and for as long as it takes.
///
/// A thread of its own delivers; [`AlertManager::send`] only decides and, with a store, waits until the alert is written.
/// Dropping the manager waits up to [`AlertOptions::shutdown_timeout`] for what is still to be delivered.
///
/// ```
/// use std::sync::mpsc;
/// use sre_alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig};
/// use sre_core::{Alert, Severity};
///
/// let (sender, alerts) = mpsc::channel();
/// let manager = AlertManager::new(AlertOptions::default())?;
/// let channel = CallbackChannel::new("log", move |alert: &Alert| sender.send(alert.title.clone()).unwrap());
/// manager.add_channel(channel, ChannelConfig::default())?;
/// manager.send(&Alert { severity: Severity::Critical, ..Alert::new("Budget spent", "5 % of tasks failed") });
/// assert_eq!(alerts.recv()?, "Budget spent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AlertManager {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A manager that cannot be what it was asked to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// There is a channel of that name already.
    #[error("channel `{0}`: found a second one of this name, expected one")]
    DuplicateChannel(String),
    /// A rate limit of no time.
    #[error("channel `{0}`: found a rate limit over no time, expected a duration above 0")]
    EmptyRateLimit(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that delivers cannot be started.
    #[error("cannot start the thread that delivers alerts: {0}")]
    Thread(#[from] std::io::Error),
}

impl AlertManager {
    /// A manager without channels, whose thread runs from now on. With a store, what an earlier run left open is known
    /// again, and what it did not deliver is delivered once its channel is added.
    pub fn new(options: AlertOptions) -> Result<Self, ManagerError> {
        let manager = Self::without_thread(options);
        let worker = Worker::new(manager.shared.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("sre-alerts".to_owned()).spawn(move || runtime.block_on(worker.run()))?;
        *lock(&manager.thread) = Some(thread);
        Ok(manager)
    }

    /// A manager without a thread: whoever holds it calls [`AlertManager::deliver_due`], from a runtime of their own or in
    /// a test with a manual clock.
    pub fn without_thread(options: AlertOptions) -> Self {
        Self { shared: Arc::new(Shared::new(options)), thread: Mutex::new(None) }
    }

    /// Registers a channel. With a store, incidents that an earlier run sent to a channel of its name go on, and its
    /// unfinished deliveries are taken up.
    pub fn add_channel(&self, channel: impl AlertChannel + 'static, config: ChannelConfig) -> Result<(), ManagerError> {
        self.add_channels(vec![(Arc::new(channel), config)])
    }

    /// Registers channels, all or none.
    pub fn add_channels(&self, channels: Vec<(Arc<dyn AlertChannel>, ChannelConfig)>) -> Result<(), ManagerError> {
        let mut state = self.shared.state();
        for (at, (channel, config)) in channels.iter().enumerate() {
            let name = channel.name();
            let is_known = state.pipelines.iter().any(|pipeline| &*pipeline.name == name);
            if is_known || channels[..at].iter().any(|(other, _)| other.name() == name) {
                return Err(ManagerError::DuplicateChannel(name.to_owned()));
            }
            if config.rate_limit.is_some_and(|limit| (limit.per / limit.messages.get()).is_zero()) {
                return Err(ManagerError::EmptyRateLimit(name.to_owned()));
            }
        }
        let options = &self.shared.options;
        let (silences, open) = match &options.store {
            Some(store) => (store.silences()?, store.open_incidents()?),
            None => Default::default(),
        };
        for (channel, config) in channels {
            state.add_pipeline(|number| ChannelPipeline::new(number, channel, config, options));
        }
        let now = self.shared.now();
        for (id, text) in silences {
            // One of another version that this cannot read is none; it stays where it is.
            let Ok(silence) = serde_json::from_str::<Silence>(&text) else { continue };
            if silence.ends_at > now {
                state.silencer.insert(SilenceId(id), silence);
            } else if let Some(store) = &options.store {
                // It is over: should it stay in the store, the next start takes it away.
                let _ = store.save_silence(id, None);
            }
        }
        open.into_iter().for_each(|record| state.restore(record, now));
        drop(state);
        self.shared.adopt(false);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Takes a channel away; what it has not delivered is not delivered in this run. False where there is none.
    pub fn remove_channel(&self, name: &str) -> bool {
        let mut state = self.shared.state();
        let before = state.pipelines.len();
        state.pipelines.retain(|pipeline| &*pipeline.name != name);
        state.pipelines.len() < before
    }

    /// The channels' names, in the order they were added.
    pub fn list_channels(&self) -> Vec<String> {
        self.shared.state().pipelines.iter().map(|pipeline| pipeline.name.to_string()).collect()
    }

    /// Sends an alert to every channel that wants it, and says what each will do. Never waits for the network; with a
    /// store, returns once the alert is written there. Where the store fails, the alert goes out all the same.
    pub fn send(&self, alert: &Alert) -> SendReport {
        let key = self.shared.fingerprinter.of(alert);
        // Whether it is a repetition can be told by a coarser and cheaper time.
        if self.shared.state().is_duplicate(key, alert.severity, self.shared.options.clock.coarse_now()) {
            return SendReport::nothing(Verdict::Duplicate);
        }
        if self.shared.options.store.is_some() {
            let sent = self.send_all(std::slice::from_ref(alert)).pop();
            return sent.unwrap_or_else(|| SendReport::nothing(Verdict::Accepted));
        }
        // What takes time is done where nobody waits for the lock.
        let now = self.shared.now();
        let alert = complete(alert, now);
        let mut state = self.shared.state();
        match state.plan(key, alert, now) {
            Ok(planned) => {
                let sent = state.dispatch(planned, None, now);
                drop(state);
                self.shared.wake.notify_one();
                sent
            }
            Err(sent) => sent,
        }
    }

    /// Sends several alerts, which a store writes in one transaction.
    pub fn send_all(&self, alerts: &[Alert]) -> Vec<SendReport> {
        let sent = self.shared.send_all(alerts);
        self.shared.wake.notify_one();
        sent
    }

    /// Notes that somebody has taken the incident of that key on: it is not repeated or escalated any more, unless it
    /// gets worse, and its channels are told. False where no such incident is open.
    pub fn acknowledge(&self, dedup_key: &str, by: &str) -> Result<bool, StoreError> {
        let now = self.shared.now();
        let known = self.shared.state().acknowledge(dedup_key, by, now);
        self.shared.wake.notify_one();
        match &self.shared.options.store {
            Some(store) => Ok(store.acknowledge(dedup_key, by, now)? || known),
            None => Ok(known),
        }
    }

    /// Begins a silence; a store keeps it over restarts.
    pub fn silence(&self, silence: Silence) -> Result<SilenceId, InvalidSilence> {
        let text = serde_json::to_string(&silence).ok();
        let id = self.shared.state().silencer.add(silence)?;
        self.shared.save_silence(id, text.as_deref());
        Ok(id)
    }

    /// Ends a silence; what it held and still fires is sent. False where there is none of that id.
    pub fn end_silence(&self, id: SilenceId) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let is_known = state.silencer.remove(id);
        state.recheck_silences(now);
        drop(state);
        self.shared.save_silence(id, None);
        self.shared.wake.notify_one();
        is_known
    }

    /// The silences that are not over.
    pub fn silences(&self) -> Vec<(SilenceId, Silence)> {
        let now = self.shared.now();
        self.shared.state().silencer.silences(now)
    }

    /// What was sent, held back, delivered and lost since the start.
    pub fn stats(&self) -> AlertsSnapshot {
        self.shared.state().snapshot()
    }

    /// Forgets which alerts were sent, so that every one is news again, and sets the statistics to 0. A store's history
    /// stays.
    pub fn clear_history(&self) {
        self.shared.state().clear();
    }

    /// Delivers everything that is due by the clock, and returns when nothing more is, or can be, until later.
    pub async fn deliver_due(&self) {
        Worker::new(self.shared.clone()).deliver_due().await;
    }

    /// Waits until nothing is left to deliver, at most so long; false when time ran out. What waits in a group or behind
    /// a rate limit is sent at once. Needs the manager's thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        {
            let now = self.shared.now();
            self.shared.state().tick(now, true);
        }
        *lock(&self.shared.idle.0) = false;
        self.shared.wake.notify_one();
        let deadline = Instant::now() + timeout;
        let mut is_idle = lock(&self.shared.idle.0);
        while !*is_idle {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.shared.idle.1.wait_timeout(is_idle, left);
            is_idle = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Delivers what it can within that time, and ends the thread. What is left waits in the store for the next run;
    /// without one it is lost, and this returns how much.
    pub fn shutdown(self, timeout: Duration) -> usize {
        self.stop(timeout)
    }

    fn stop(&self, timeout: Duration) -> usize {
        let Some(thread) = lock(&self.thread).take() else { return 0 };
        self.flush(timeout);
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        // The thread contains the panics of channels; it has none of its own to report.
        let _ = thread.join();
        let state = self.shared.state();
        let left: usize = state.pipelines.iter().map(ChannelPipeline::undelivered).sum();
        if self.shared.options.store.is_some() { 0 } else { left }
    }
}

impl SignalHandler for AlertManager {
    fn handle(&self, signal: &Signal) {
        if let Some(alert) = (self.shared.options.mapping)(signal) {
            self.send(&alert);
        }
    }
}

/// It observes nothing, but what it is belongs to what exporters publish.
impl Observer for AlertManager {
    fn observe(&self, _event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {}

    fn snapshot(&self, _now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Alerts(self.stats())]
    }
}

impl Drop for AlertManager {
    fn drop(&mut self) {
        self.stop(self.shared.options.shutdown_timeout);
    }
}

impl fmt::Debug for AlertManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertManager").field("channels", &self.list_channels()).finish_non_exhaustive()
    }
}
