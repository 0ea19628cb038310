use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use sre_core::{Alert, Severity, StoreError, Timestamp, lock};
use tokio::sync::Notify;

use crate::channel_pipeline::ChannelPipeline;
use crate::fingerprint::Fingerprinter;
use crate::state::{PlannedAlert, State, complete};
use crate::{AlertOptions, SendReport, SilenceId, Verdict};

/// What the manager and its thread share.
pub(crate) struct Shared {
    pub(crate) options: Arc<AlertOptions>,
    pub(crate) fingerprinter: Fingerprinter,
    state: Mutex<State>,
    intake: Mutex<CommitQueue>,
    /// Held by whoever writes to the store what was taken in: one at a time, in order.
    commit_lock: Mutex<()>,
    pub(crate) wake: Notify,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) idle: (Mutex<bool>, Condvar),
}

const SPINS: u32 = 10_000;

/// Alerts that wait to be written together.
#[derive(Default)]
struct CommitQueue {
    next: u64,
    waiting: Vec<(u64, PlannedAlert)>,
    done: HashMap<u64, SendReport>,
}

impl CommitQueue {
    /// Takes an alert in; the ticket is to fetch by it what became of it.
    fn take(&mut self, planned: PlannedAlert) -> u64 {
        self.next += 1;
        self.waiting.push((self.next, planned));
        self.next
    }
}

impl Shared {
    pub(crate) fn new(options: AlertOptions) -> Self {
        let (options, fingerprinter) = (Arc::new(options), Fingerprinter::new());
        Self {
            state: Mutex::new(State::new(options.clone(), fingerprinter)),
            fingerprinter,
            options,
            intake: Mutex::default(),
            commit_lock: Mutex::default(),
            wake: Notify::new(),
            is_stopping: AtomicBool::new(false),
            idle: (Mutex::new(false), Condvar::new()),
        }
    }

    /// Decides on every alert and, where there is a store, writes what is accepted before it goes on its way.
    pub(crate) fn send_all(&self, alerts: &[Alert]) -> Vec<SendReport> {
        let now = self.now();
        let is_durable = self.options.store.is_some();
        let complete: Vec<_> =
            alerts.iter().map(|alert| (self.fingerprinter.of(alert), complete(alert, now))).collect();
        let mut all = Vec::with_capacity(alerts.len());
        let mut tickets = Vec::new();
        {
            let mut state = self.state();
            let mut intake = lock(&self.intake);
            for (key, alert) in complete {
                match state.plan(key, alert, now) {
                    Ok(planned) if is_durable => {
                        tickets.push((all.len(), intake.take(planned)));
                        all.push(SendReport::nothing(Verdict::Accepted));
                    }
                    Ok(planned) => all.push(state.dispatch(planned, None, now)),
                    Err(sent) => all.push(sent),
                }
            }
        }
        if !tickets.is_empty() {
            self.commit();
            let mut intake = lock(&self.intake);
            for (at, ticket) in tickets {
                if let Some(sent) = intake.done.remove(&ticket) {
                    all[at] = sent;
                }
            }
        }
        all
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The same for the worker, which tries for a while before it goes to sleep: whoever sends would have to wake it.
    pub(crate) fn lock_state_spinning(&self) -> MutexGuard<'_, State> {
        for _ in 0..SPINS {
            if let Ok(state) = self.state.try_lock() {
                return state;
            }
            std::hint::spin_loop();
        }
        self.state()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Writes what was taken in, and sends it on its way. Whoever comes first writes for all who wait.
    fn commit(&self) {
        let _commit = lock(&self.commit_lock);
        let taken = std::mem::take(&mut lock(&self.intake).waiting);
        if taken.is_empty() {
            return;
        }
        let alert_ids: Vec<_> = {
            let state = self.state();
            taken.iter().map(|(_, planned)| state.row(planned)).collect()
        };
        let written =
            self.options.store.as_ref().map(|store| store.append(&alert_ids)).unwrap_or_else(|| Ok(Vec::new()));
        let now = self.now();
        let mut state = self.state();
        let ids = written.as_ref().map(Vec::as_slice).unwrap_or_default();
        let sent: Vec<(u64, SendReport)> = taken
            .into_iter()
            .enumerate()
            .map(|(at, (ticket, planned))| (ticket, state.dispatch(planned, ids.get(at).copied(), now)))
            .collect();
        lock(&self.intake).done.extend(sent);
        self.note_store(&mut state, written.map(|_| ()), now);
    }

    /// Takes from the store what there is room for: what had none before, and what processes left that are no more.
    pub(crate) fn adopt(&self, only_spilled: bool) {
        let Some(store) = &self.options.store else { return };
        // Nothing may be taken in between, or it would overtake what is adopted.
        let _commit = lock(&self.commit_lock);
        let wanting: Vec<(Arc<str>, usize)> = {
            let state = self.state();
            let half = self.options.queue_limit.div_ceil(2);
            let wants = |pipeline: &&ChannelPipeline| {
                pipeline.free_capacity() >= half && (pipeline.has_spilled || !only_spilled)
            };
            state
                .pipelines
                .iter()
                .filter(wants)
                .map(|pipeline| (pipeline.name.clone(), pipeline.free_capacity()))
                .collect()
        };
        for (name, room) in wanting {
            let adopted = store.adopt(&name, room);
            let now = self.now();
            let mut state = self.state();
            match adopted {
                Ok(records) => {
                    let is_all = records.len() < room;
                    state.enqueue_adopted(&name, records, is_all, now);
                }
                Err(error) => {
                    // What is new goes out meanwhile.
                    state.enqueue_adopted(&name, Vec::new(), true, now);
                    self.note_store(&mut state, Err(error), now);
                }
            }
        }
    }

    /// Says, as an alert, that the store fails, and that it works again.
    pub(crate) fn note_store(&self, state: &mut State, result: Result<(), StoreError>, now: Timestamp) {
        let alert = match result {
            Ok(()) if state.store_failure.is_none() => return,
            Ok(()) => {
                state.store_failure = None;
                Alert { severity: Severity::Resolved, ..Alert::new("The alert history is written again", "") }
            }
            Err(error) => {
                state.counts.store_failures += 1;
                let message = format!("{error}. Alerts go out all the same, but a restart would forget them.");
                state.store_failure = Some(error);
                Alert { severity: Severity::Critical, ..Alert::new("The alert history cannot be written", message) }
            }
        };
        let alert = Alert { dedup_key: "sre-alerts/store".to_owned(), ..alert };
        if let Ok(planned) = state.plan(self.fingerprinter.of(&alert), complete(&alert, now), now) {
            state.dispatch(planned, None, now);
        }
    }

    /// Keeps a silence in the store, or takes it away there.
    pub(crate) fn save_silence(&self, id: SilenceId, text: Option<&str>) {
        if let Some(store) = &self.options.store {
            let saved = store.save_silence(id.0, text);
            self.note_store(&mut self.state(), saved, self.now());
        }
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        *lock(&self.idle.0) = idle;
        if idle {
            self.idle.1.notify_all();
        }
    }
}
