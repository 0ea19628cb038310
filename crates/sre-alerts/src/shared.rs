use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use sre_core::private::lock;
use sre_core::{Alert, AlertQuery, AlertRecord, Severity, StoreError, Timestamp};
use tokio::sync::Notify;

use crate::channel_pipeline::ChannelPipeline;
use crate::fingerprint::Fingerprinter;
use crate::planned_alert::{PlannedAlert, with_defaults};
use crate::state::State;
use crate::{AlertOptions, SendReport, SilenceId, Verdict};

/// What the manager and its delivery thread share.
pub(crate) struct Shared {
    pub(crate) options: Arc<AlertOptions>,
    pub(crate) fingerprinter: Fingerprinter,
    state: Mutex<State>,
    commit_queue: Mutex<CommitQueue>,
    /// Held while alerts are committed to the store or adopted from it, which keeps them in order.
    commit_lock: Mutex<()>,
    pub(crate) wake: Notify,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) idle: (Mutex<bool>, Condvar),
    created: Timestamp,
}

const SPINS: u32 = 10_000;

/// Planned alerts that wait to be committed together.
#[derive(Default)]
struct CommitQueue {
    last_ticket: u64,
    waiting: Vec<(u64, PlannedAlert)>,
    committed: HashMap<u64, SendReport>,
}

impl CommitQueue {
    /// Adds an alert and returns the ticket for its report.
    fn push(&mut self, planned: PlannedAlert) -> u64 {
        self.last_ticket += 1;
        self.waiting.push((self.last_ticket, planned));
        self.last_ticket
    }
}

impl Shared {
    pub(crate) fn new(options: AlertOptions) -> Self {
        let (options, fingerprinter) = (Arc::new(options), Fingerprinter::new());
        Self {
            state: Mutex::new(State::new(options.clone(), fingerprinter)),
            fingerprinter,
            created: options.clock.now(),
            options,
            commit_queue: Mutex::default(),
            commit_lock: Mutex::default(),
            wake: Notify::new(),
            is_stopping: AtomicBool::new(false),
            idle: (Mutex::new(false), Condvar::new()),
        }
    }

    /// Plans every alert and dispatches those accepted; with a store, once they are committed there.
    pub(crate) fn send_all(&self, alerts: Vec<Alert>) -> Vec<SendReport> {
        let now = self.now();
        let is_durable = self.options.store.is_some();
        let keyed: Vec<_> =
            alerts.into_iter().map(|alert| (self.fingerprinter.of(&alert), with_defaults(alert, now))).collect();
        let mut reports = Vec::with_capacity(keyed.len());
        let mut tickets = Vec::new();
        {
            let mut state = self.state();
            let mut commit_queue = lock(&self.commit_queue);
            for (key, alert) in keyed {
                match state.plan(key, alert, now) {
                    Ok(planned) if is_durable => {
                        tickets.push((reports.len(), commit_queue.push(planned)));
                        reports.push(SendReport::new(Verdict::Accepted));
                    }
                    Ok(planned) => reports.push(state.dispatch(planned, None, now)),
                    Err(report) => reports.push(report),
                }
            }
        }
        if !tickets.is_empty() {
            self.commit();
            let mut commit_queue = lock(&self.commit_queue);
            for (index, ticket) in tickets {
                if let Some(report) = commit_queue.committed.remove(&ticket) {
                    reports[index] = report;
                }
            }
        }
        reports
    }

    /// Returns the alerts that change an incident: not one that was sent already, with the same start and severity, nor the
    /// resolution of an incident that is not open. An alert that was sent already is delivered again to channels that failed to deliver it.
    pub(crate) fn changes(&self, mut alerts: Vec<Alert>) -> Vec<Alert> {
        let is_known = |alert: &Alert| self.state().incident(self.fingerprinter.of(alert)).is_some();
        alerts.retain(|alert| !self.began_before_this_run(alert) || is_known(alert) || !self.is_past(alert));
        let mut state = self.state();
        let form = |alert: &Alert| (alert.severity, alert.starts_at);
        // What each incident will be, once the alerts before are sent.
        let mut incidents = HashMap::new();
        let mut repeated = Vec::new();
        alerts.retain(|alert| {
            if alert.one_off {
                return true;
            }
            let key = self.fingerprinter.of(alert);
            let last = incidents.entry(key).or_insert_with(|| state.incident(key).map(form));
            let next = (alert.severity != Severity::Resolved).then(|| form(alert));
            let is_change = std::mem::replace(last, next) != next;
            repeated.extend((!is_change && next.is_some()).then_some(key));
            is_change
        });
        let now = self.now();
        for key in repeated {
            if state.redeliver(key, now) {
                self.wake.notify_one();
            }
        }
        alerts
    }

    fn began_before_this_run(&self, alert: &Alert) -> bool {
        alert.starts_at != Timestamp::default() && alert.starts_at < self.created
    }

    /// Returns whether the history has the single occurrence, or a resolution of the incident after the alert: engines that an
    /// earlier run has not saved raise their signals again.
    fn is_past(&self, alert: &Alert) -> bool {
        let key = Some(alert.key().into_owned());
        let query = AlertQuery { dedup_key: key, limit: Some(1), ..AlertQuery::default() };
        // If the store fails, the alert is rather sent twice than not at all.
        let last = self.options.store.as_ref().and_then(|store| store.query(&query).ok()?.pop());
        // After the clock was set back, the last resolution may be later than an incident that has just begun.
        let is_over = |last: &AlertRecord| {
            last.at <= self.now() && last.alert.ends_at.is_some_and(|ended| ended >= alert.starts_at)
        };
        let is_past = last.is_some_and(|last| alert.one_off || is_over(&last));
        self.state().counts.deduplicated += u64::from(is_past && alert.one_off);
        is_past
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Locks the state for the worker, which spins first: a sender would otherwise have to wake it.
    pub(crate) fn state_spinning(&self) -> MutexGuard<'_, State> {
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

    /// Commits the waiting alerts in one transaction and dispatches them. The first caller commits for all that wait.
    fn commit(&self) {
        let _commit = lock(&self.commit_lock);
        let waiting = std::mem::take(&mut lock(&self.commit_queue).waiting);
        if waiting.is_empty() {
            return;
        }
        let new: Vec<_> = {
            let state = self.state();
            waiting.iter().map(|(_, planned)| state.stored_form(planned)).collect()
        };
        let appended = self.options.store.as_ref().map_or_else(|| Ok(Vec::new()), |store| store.append(&new));
        let now = self.now();
        let mut state = self.state();
        let ids = appended.as_ref().map(Vec::as_slice).unwrap_or_default();
        let reports: Vec<(u64, SendReport)> = waiting
            .into_iter()
            .enumerate()
            .map(|(index, (ticket, planned))| (ticket, state.dispatch(planned, ids.get(index).copied(), now)))
            .collect();
        lock(&self.commit_queue).committed.extend(reports);
        self.note_store(&mut state, appended.map(|_| ()), now);
    }

    /// Adopts deliveries from the store, as many as fit into the queues: those that spilled, and unless `only_spilled`, also
    /// those whose owner's lease has ended.
    pub(crate) fn adopt(&self, only_spilled: bool) {
        let Some(store) = &self.options.store else { return };
        // An alert committed in between would overtake the adopted ones.
        let _commit = lock(&self.commit_lock);
        let channels: Vec<(Arc<str>, usize)> = {
            let state = self.state();
            let half = self.options.queue_limit.div_ceil(2);
            let adopts = |pipeline: &&ChannelPipeline| {
                pipeline.free_capacity() >= half && (pipeline.has_spilled || !only_spilled)
            };
            let pipelines = state.pipelines.iter().filter(adopts);
            pipelines.map(|pipeline| (pipeline.name.clone(), pipeline.free_capacity())).collect()
        };
        for (name, capacity) in channels {
            let now = self.now();
            let adopted = store.adopt(&name, capacity, now);
            let mut state = self.state();
            match adopted {
                Ok(records) => {
                    let is_last = records.len() < capacity;
                    state.accept_adopted(&name, records, is_last, now);
                }
                Err(error) => {
                    // Unblocks new alerts, which would otherwise wait behind those in the store.
                    state.accept_adopted(&name, Vec::new(), true, now);
                    self.note_store(&mut state, Err(error), now);
                }
            }
        }
    }

    /// Sends an alert when the store fails, and its resolution when it works again.
    pub(crate) fn note_store(&self, state: &mut State, result: Result<(), StoreError>, now: Timestamp) {
        let alert = match result {
            Ok(()) if !state.is_store_failing => return,
            Ok(()) => Alert { severity: Severity::Resolved, ..Alert::new("Alert history writable again", "") },
            Err(error) => {
                state.counts.store_failures += 1;
                let message =
                    format!("{error}. Alerts are still delivered, but a restart loses those not delivered yet.");
                Alert { severity: Severity::Critical, ..Alert::new("Alert history write failed", message) }
            }
        };
        state.is_store_failing = alert.severity == Severity::Critical;
        let alert = Alert { dedup_key: "sre-alerts/store".to_owned(), ..alert };
        if let Ok(planned) = state.plan(self.fingerprinter.of(&alert), with_defaults(alert, now), now) {
            state.dispatch(planned, None, now);
        }
    }

    /// Saves a silence in the store, or deletes it there.
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
