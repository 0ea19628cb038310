use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sre_core::private::lock;
use sre_core::{Alert, AlertChannel, AlertsSnapshot, Collect, Signal, SignalHandler, Snapshot, StoreError, Timestamp};

use crate::channel_pipeline::ChannelPipeline;
use crate::planned_alert::with_defaults;
use crate::shared::Shared;
use crate::silence::{InvalidSilence, Silence, SilenceId};
use crate::worker::Worker;
use crate::{AlertOptions, ChannelConfig, SendReport, Verdict};

/// Routes alerts to channels and delivers them, in order for each key and with retries.
///
/// Delivery runs on a thread of its own: [`AlertManager::send`] only decides and, with a store, waits until the alert is
/// stored. Dropping the manager waits up to [`AlertOptions::shutdown_timeout`] for unfinished deliveries.
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

/// A manager that cannot be created, or channels that cannot be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// A channel of this name is registered already.
    #[error("duplicate channel name `{0}`")]
    DuplicateChannel(String),
    /// A rate limit whose time is zero, or too short for its messages.
    #[error("channel `{0}`: found a rate limit with a duration of 0, expected more")]
    EmptyRateLimit(String),
    /// A channel that delivers by HTTP, without an HTTP client.
    #[error("channel `{0}` needs an HTTP client; set `AlertOptions::http`, for instance to an `sre_http::Client`")]
    NoHttpClient(String),
    /// Reading the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Starting the delivery thread failed.
    #[error("cannot start the delivery thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl AlertManager {
    /// Creates a manager without channels and starts its delivery thread.
    ///
    /// With a store, the open incidents and unfinished deliveries of earlier runs are restored for each channel that is
    /// added.
    pub fn new(options: AlertOptions) -> Result<Self, ManagerError> {
        let manager = Self::without_thread(options);
        let worker = Worker::new(manager.shared.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("sre-alerts".to_owned()).spawn(move || runtime.block_on(worker.run()))?;
        *lock(&manager.thread) = Some(thread);
        Ok(manager)
    }

    /// Creates a manager without a delivery thread: the caller runs [`AlertManager::deliver_due`], on a runtime of its own or
    /// in a test with a manual clock.
    pub fn without_thread(options: AlertOptions) -> Self {
        Self { shared: Arc::new(Shared::new(options)), thread: Mutex::new(None) }
    }

    /// Adds a channel. With a store, open incidents that an earlier run sent to a channel of this name are restored, and its
    /// unfinished deliveries are resumed.
    ///
    /// # Errors
    ///
    /// Returns an error if there is a channel of this name, if its rate limit is over no time, if it delivers by HTTP and there
    /// is no client in [`AlertOptions::http`], or if reading the store fails.
    pub fn add_channel(&self, channel: impl AlertChannel + 'static, config: ChannelConfig) -> Result<(), ManagerError> {
        self.add_channels(vec![(Arc::new(channel), config)])
    }

    /// Adds channels, all or none, with the same errors as [`add_channel`](Self::add_channel).
    pub fn add_channels(&self, channels: Vec<(Arc<dyn AlertChannel>, ChannelConfig)>) -> Result<(), ManagerError> {
        let can_send = self.shared.options.http.can_send();
        let mut state = self.shared.state();
        for (index, (channel, config)) in channels.iter().enumerate() {
            let name = channel.name();
            let is_known = state.pipelines.iter().any(|pipeline| &*pipeline.name == name);
            if is_known || channels[..index].iter().any(|(other, _)| other.name() == name) {
                return Err(ManagerError::DuplicateChannel(name.to_owned()));
            }
            if config.rate_limit.is_some_and(|limit| (limit.per / limit.messages.get()).is_zero()) {
                return Err(ManagerError::EmptyRateLimit(name.to_owned()));
            }
            if channel.needs_http() && !can_send {
                return Err(ManagerError::NoHttpClient(name.to_owned()));
            }
        }
        let options = &self.shared.options;
        let (silences, open) = match &options.store {
            Some(store) => (store.silences()?, store.open_incidents()?),
            None => Default::default(),
        };
        for (channel, config) in channels {
            state.add_pipeline(|id| ChannelPipeline::new(id, channel, config, options));
        }
        let now = self.shared.now();
        for (id, text) in silences {
            // A silence that this version cannot read is left in the store.
            let Ok(silence) = serde_json::from_str::<Silence>(&text) else { continue };
            if silence.ends_at > now {
                state.silencer.insert(SilenceId(id), silence);
            } else if let Some(store) = &options.store {
                // It has ended. If deleting it fails, the next start tries again.
                let _ = store.save_silence(id, None);
            }
        }
        open.into_iter().for_each(|record| state.restore(record, now));
        drop(state);
        self.shared.adopt(false);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Removes a channel; false if there is none of this name. Its unfinished deliveries are not continued in this run.
    pub fn remove_channel(&self, name: &str) -> bool {
        let mut state = self.shared.state();
        let before = state.pipelines.len();
        state.pipelines.retain(|pipeline| &*pipeline.name != name);
        state.pipelines.len() < before
    }

    /// Returns the channels' names in the order they were added.
    pub fn list_channels(&self) -> Vec<String> {
        self.shared.state().pipelines.iter().map(|pipeline| pipeline.name.to_string()).collect()
    }

    /// Sends an alert to the channels it is routed to, and returns the decision for each.
    ///
    /// Never waits for the network. With a store, returns once the alert is stored; if that fails, the alert is delivered
    /// nevertheless.
    pub fn send(&self, alert: &Alert) -> SendReport {
        let key = self.shared.fingerprinter.of(alert);
        // The coarse time is cheap, and good enough to recognise duplicates.
        if self.shared.state().is_duplicate(key, alert.severity, self.shared.options.clock.coarse_now()) {
            return SendReport::new(Verdict::Duplicate);
        }
        if self.shared.options.store.is_some() {
            let report = self.send_all(vec![alert.clone()]).pop();
            return report.unwrap_or_else(|| SendReport::new(Verdict::Accepted));
        }
        // Copied before the lock is taken, which other senders may wait for.
        let now = self.shared.now();
        let alert = with_defaults(alert.clone(), now);
        let mut state = self.shared.state();
        match state.plan(key, alert, now) {
            Ok(planned) => {
                let report = state.dispatch(planned, None, now);
                drop(state);
                self.shared.wake.notify_one();
                report
            }
            Err(report) => report,
        }
    }

    /// Sends alerts in order, as [`AlertManager::send`] does each, and returns their reports in the same order.
    ///
    /// With a store, all of them are stored in one transaction.
    pub fn send_all(&self, alerts: Vec<Alert>) -> Vec<SendReport> {
        let reports = self.shared.send_all(alerts);
        self.shared.wake.notify_one();
        reports
    }

    /// Acknowledges the open incident of a key: it is no longer repeated or escalated unless its severity rises, and its
    /// channels are notified. False if no such incident is open.
    pub fn acknowledge(&self, dedup_key: &str, by: &str) -> Result<bool, StoreError> {
        let now = self.shared.now();
        let is_known = self.shared.state().acknowledge(dedup_key, by, now);
        self.shared.wake.notify_one();
        match &self.shared.options.store {
            Some(store) => Ok(store.acknowledge(dedup_key, by, now)? || is_known),
            None => Ok(is_known),
        }
    }

    /// Adds a silence; with a store, it outlives a restart.
    pub fn silence(&self, silence: Silence) -> Result<SilenceId, InvalidSilence> {
        let text = serde_json::to_string(&silence).ok();
        let id = self.shared.state().silencer.add(silence)?;
        self.shared.save_silence(id, text.as_deref());
        Ok(id)
    }

    /// Ends a silence and sends the held alerts that still fire; false if there is none of this id.
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

    /// Returns the silences that have not ended.
    pub fn silences(&self) -> Vec<(SilenceId, Silence)> {
        let now = self.shared.now();
        self.shared.state().silencer.silences(now)
    }

    /// Returns the counters since the start.
    pub fn stats(&self) -> AlertsSnapshot {
        self.shared.state().snapshot()
    }

    /// Forgets all incidents, so that no alert is a duplicate, and resets the counters. The history in the store is kept.
    pub fn clear_history(&self) {
        self.shared.state().clear();
    }

    /// Delivers everything that is due by the clock, and returns when nothing more is.
    pub async fn deliver_due(&self) {
        Worker::new(self.shared.clone()).deliver_due().await;
    }

    /// Releases what groups and rate limits hold, and waits until everything is delivered; false after the timeout. Needs
    /// the manager's delivery thread.
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
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            let woken = self.shared.idle.1.wait_timeout(is_idle, remaining);
            is_idle = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Flushes, then stops the delivery thread. Undelivered messages stay in the store for the next run; without a store they
    /// are lost, and this returns their number.
    pub fn shutdown(self, timeout: Duration) -> usize {
        self.stop(timeout)
    }

    fn stop(&self, timeout: Duration) -> usize {
        let Some(thread) = lock(&self.thread).take() else { return 0 };
        self.flush(timeout);
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        // Panics of channels are caught on the thread, so it does not panic.
        let _ = thread.join();
        let state = self.shared.state();
        let undelivered: usize = state.pipelines.iter().map(ChannelPipeline::undelivered).sum();
        if self.shared.options.store.is_some() { 0 } else { undelivered }
    }
}

/// Sends the alerts that [`AlertOptions::mapping`] returns for signals. Engines re-send the last signal of each incident; such a
/// repeat is no new alert.
impl SignalHandler for AlertManager {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        let alerts: Vec<Alert> = signals.iter().filter_map(|signal| (self.shared.options.mapping)(signal)).collect();
        let changes = self.shared.changes(alerts);
        if !changes.is_empty() {
            self.send_all(changes);
        }
    }
}

impl Collect for AlertManager {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
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
