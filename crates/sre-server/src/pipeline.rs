use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_sre::private::lock;
use agent_sre::{JournalEntry, JournalStore, StoreError, Timestamp};
use tokio::sync::oneshot;

use crate::batch::{Batch, time_entry};
use crate::engine_set::EngineSet;
use crate::journal_clock::JournalClock;
use crate::processor::{BatchReport, Processor};
use crate::service_time::whole_second;
use crate::shared::Shared;

/// The path of a batch: a thread writes it to the journal, together with others that wait, and another one processes it. Then
/// the sender receives the outcome.
pub(crate) struct Pipeline {
    /// `None` once the pipeline is stopping.
    senders: Mutex<Option<Senders>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Senders {
    journal: SyncSender<Job>,
    processor: SyncSender<Work>,
}

/// The outcome of a batch.
pub(crate) type Outcome = Result<BatchReport, IngestError>;

/// A batch was refused.
#[derive(Debug)]
pub(crate) enum IngestError {
    /// Too many batches wait already.
    Busy,
    /// The journal cannot be written.
    Journal(StoreError),
    /// The service is stopping.
    Stopping,
}

struct Job {
    batch: Batch,
    reply: oneshot::Sender<Outcome>,
}

/// A message to the processor thread.
enum Work {
    /// Advances time to a whole second, which may be in the journal's entry with a number. Batches that were received before come
    /// before it.
    Advance(Timestamp, Option<u64>),
    /// Processes a batch, which is the journal's entry with this number.
    Process(u64, Job),
    /// Replaces the engines after a change of the configuration. The new ones restore the state of the current ones.
    ReplaceEngines(Box<EngineSet>, oneshot::Sender<Result<(), String>>),
}

/// Length of the queues before the journal and the processor. The size of the batches is bounded by `max_in_flight`.
const QUEUE: usize = 256;
/// How much is written to the journal in one transaction, in bytes.
const MAX_COMMIT: usize = 8 << 20;
/// Time between two snapshots while batches arrive.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);
/// Time after which a failed snapshot is retried.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);
/// How long a reload waits for signal handlers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time after which a snapshot is written without batches, so that a replay stays short.
const IDLE_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);
/// Maximum time between two advances of time, and minimum time between two attempts at a snapshot.
const TICK: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Starts the two threads. `processor` has processed all entries of the journal.
    pub(crate) fn start(
        processor: Processor,
        journal: Arc<dyn JournalStore>,
        snapshot_after: u64,
    ) -> std::io::Result<Self> {
        let (to_journal, jobs) = sync_channel(QUEUE);
        let (to_processor, work) = sync_channel(QUEUE);
        let senders = Senders { journal: to_journal, processor: to_processor.clone() };
        let (shared, writer, clock) = (processor.shared.clone(), journal.clone(), JournalClock::new(processor.time));
        let spawn =
            |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(run);
        let threads = vec![
            spawn("sre-journal", Box::new(move || write(&jobs, &to_processor, &*writer, &shared, clock)))?,
            spawn(
                "sre-processor",
                Box::new(move || ProcessorThread::new(processor, journal, snapshot_after).run(&work)),
            )?,
        ];
        Ok(Self { senders: Mutex::new(Some(senders)), threads: Mutex::new(threads) })
    }

    /// Queues a batch. The outcome arrives once the batch is durable and processed.
    pub(crate) fn send(&self, batch: Batch) -> Result<oneshot::Receiver<Outcome>, IngestError> {
        let (reply, outcome) = oneshot::channel();
        let senders = lock(&self.senders);
        match senders.as_ref().ok_or(IngestError::Stopping)?.journal.try_send(Job { batch, reply }) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => Err(IngestError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(IngestError::Stopping),
        }
    }

    /// Replaces the engines. The new ones restore the state of the current ones. The receiver fails if the pipeline is stopping.
    pub(crate) fn replace(&self, engines: EngineSet) -> oneshot::Receiver<Result<(), String>> {
        let (reply, outcome) = oneshot::channel();
        let processor = lock(&self.senders).as_ref().map(|senders| senders.processor.clone());
        if let Some(processor) = processor {
            let _ = processor.send(Work::ReplaceEngines(Box::new(engines), reply));
        }
        outcome
    }

    /// Processes the batches that wait, writes a snapshot and ends the threads.
    pub(crate) fn stop(&self) {
        drop(lock(&self.senders).take());
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A panic was reported already, and no acknowledged batch is lost.
            let _ = thread.join();
        }
    }
}

/// Writes batches to the journal, all that wait in one transaction, and passes them on. Between them it advances the time of the
/// service: each batch is received at a time that is not before that of the last one. Time stands still while the journal lacks an
/// entry of it and cannot be written.
fn write(
    jobs: &Receiver<Job>,
    processor: &SyncSender<Work>,
    journal: &dyn JournalStore,
    shared: &Shared,
    mut clock: JournalClock,
) {
    let pass_on = |work| {
        // Fails only if the processor thread has panicked. A batch stays in the journal.
        if processor.send(work).is_err() {
            shared.has_processor_panicked.store(true, Ordering::Relaxed);
        }
    };
    let (mut wait, mut stamped) = (Duration::ZERO, Instant::now());
    loop {
        let first = match jobs.recv_timeout(wait) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = clock.next(shared.clocks.wall.now(), stamped.elapsed());
        stamped = Instant::now();
        let second = whole_second(now);
        // Until the next second, or for one if the clock was set back.
        wait = if now > clock.now() { TICK.saturating_sub(now.since(second)) } else { TICK };
        let missing = clock.missing_before(second);
        let times: Vec<JournalEntry<'_>> = missing.into_iter().map(time_entry).collect();
        let entry = match (!times.is_empty()).then(|| append(journal, shared, &times)).transpose() {
            Ok(entry) => entry,
            Err(error) => {
                if clock.ticked() != Timestamp::default() {
                    // Lets the processor try to save the state, which may make room.
                    pass_on(Work::Advance(clock.ticked(), None));
                }
                first.into_iter().for_each(|job| job.refuse(&error));
                continue;
            }
        };
        if entry.is_some() || first.is_none() || clock.ticked() < second {
            pass_on(Work::Advance(second, entry));
        }
        clock.tick(now);
        if entry.is_some() {
            clock.note_journaled();
        }
        let Some(first) = first else { continue };
        let mut size = first.batch.size();
        let mut waiting = vec![first];
        while size < MAX_COMMIT
            && let Ok(job) = jobs.try_recv()
        {
            size += job.batch.size();
            waiting.push(job);
        }
        waiting.iter_mut().for_each(|job| job.batch.received = now);
        let entries: Vec<JournalEntry<'_>> = waiting.iter().map(|job| job.batch.entry()).collect();
        let written = append(journal, shared, &entries);
        drop(entries);
        match written {
            Ok(last) => {
                clock.note_batch();
                let first = last + 1 - waiting.len() as u64;
                (first..).zip(waiting).for_each(|(number, job)| pass_on(Work::Process(number, job)));
            }
            Err(error) => waiting.into_iter().for_each(|job| job.refuse(&error)),
        }
    }
}

/// Appends entries to the journal, and notes whether that succeeds. Returns the number of the last one.
fn append(journal: &dyn JournalStore, shared: &Shared, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError> {
    let written = journal.append(entries);
    shared.journal.note(written.as_ref().err());
    match &written {
        Ok(last) => shared.journal.last.store(*last, Ordering::Relaxed),
        Err(error) => {
            shared.journal.failures.fetch_add(1, Ordering::Relaxed);
            shared.journal.is_full.fetch_or(error.is_full(), Ordering::Relaxed);
            tracing::error!(%error, entries = entries.len(), "Journal write failed; clients retry");
        }
    }
    written
}

impl Job {
    /// Answers that the journal cannot be written.
    fn refuse(self, error: &StoreError) {
        // Fails if the client has disconnected.
        let _ = self.reply.send(Err(IngestError::Journal(error.clone())));
    }
}

/// Ends the old engines, and then lets the new ones send alerts: in this order, so that none overtakes another.
fn hand_over(mut old: Arc<EngineSet>, new: &EngineSet, shared: &Shared) {
    old.wait_until_delivering();
    // Requests that began before the change still read from it.
    while let Err(in_use) = Arc::try_unwrap(old).map(drop) {
        old = in_use;
        std::thread::sleep(Duration::from_millis(10));
    }
    while let Err(error) = new.deliver(&shared.removed_exporters) {
        tracing::error!(%error, "Cannot start alert delivery after the reload; retrying");
        std::thread::sleep(TICK);
    }
}

struct ProcessorThread {
    processor: Processor,
    journal: Arc<dyn JournalStore>,
    /// The number of the last processed entry.
    last: u64,
    /// Size of the batches since the last snapshot.
    bytes: u64,
    snapshot_after: u64,
    snapshot_at: Instant,
    /// The time of the service in the last snapshot.
    saved_time: Timestamp,
    /// When the journal was last checked.
    checked_at: Instant,
    /// A reload was refused because the state could not be saved.
    is_reload_pending: bool,
}

impl ProcessorThread {
    fn new(processor: Processor, journal: Arc<dyn JournalStore>, snapshot_after: u64) -> Self {
        let last = processor.shared.journal.last.load(Ordering::Relaxed);
        let (saved_time, begun) = (processor.now(), Instant::now());
        Self {
            processor,
            journal,
            last,
            bytes: 0,
            snapshot_after,
            snapshot_at: begun,
            saved_time,
            checked_at: begun,
            is_reload_pending: false,
        }
    }

    fn run(mut self, work: &Receiver<Work>) {
        while let Ok(work) = work.recv() {
            match work {
                Work::Advance(now, entry) => {
                    self.last = entry.unwrap_or(self.last);
                    self.advance(now);
                }
                Work::Process(number, job) => self.process(number, job),
                Work::ReplaceEngines(engines, reply) => {
                    let _ = reply.send(self.replace(*engines));
                }
            }
            if self.is_snapshot_due() {
                let _ = self.snapshot();
            }
        }
        // Signals that are handled need not be in the snapshot.
        self.processor.shared.engines().runtime.flush(FLUSH_TIMEOUT);
        self.check_journal();
        let _ = self.snapshot();
    }

    fn advance(&mut self, now: Timestamp) {
        self.processor.advance_to(now);
        if self.checked_at.elapsed() >= TICK {
            self.checked_at = Instant::now();
            self.check_journal();
        }
    }

    /// Reads the size of the journal, and notices if it was deleted.
    fn check_journal(&self) {
        let health = &self.processor.shared.journal;
        match self.journal.size() {
            Ok(bytes) => health.bytes.store(bytes, Ordering::Relaxed),
            Err(error) => {
                if error.is_missing() && !self.is_missing() {
                    tracing::error!(%error, "Journal file missing; rejecting requests until a new one is written");
                    health.note(Some(&error));
                }
            }
        }
    }

    fn is_missing(&self) -> bool {
        self.processor.shared.journal.is_missing.load(Ordering::Relaxed)
    }

    /// Returns whether there are entries that the last snapshot does not cover.
    fn is_behind(&self) -> bool {
        self.last > self.processor.shared.journal.covered.load(Ordering::Relaxed)
    }

    fn is_snapshot_due(&self) -> bool {
        let age = self.snapshot_at.elapsed();
        // A failed snapshot is retried, but not for every batch.
        let journal = &self.processor.shared.journal;
        if self.is_missing() {
            return age >= TICK;
        }
        if lock(&journal.snapshot_failure).is_some() {
            return age >= SNAPSHOT_RETRY;
        }
        let has_failed = || journal.is_full.load(Ordering::Relaxed) || lock(&journal.failure).is_some();
        let is_urgent = || self.bytes >= self.snapshot_after || has_failed();
        let is_idle = || self.processor.now().since(self.saved_time) >= IDLE_SNAPSHOT_INTERVAL;
        (self.is_behind() && (age >= SNAPSHOT_INTERVAL || (age >= TICK && is_urgent()))) || (age >= TICK && is_idle())
    }

    fn process(&mut self, number: u64, job: Job) {
        self.last = number;
        self.bytes += job.batch.size() as u64;
        let report = self.processor.process(job.batch);
        // Fails if the client has disconnected.
        let _ = job.reply.send(Ok(report));
    }

    /// Replaces the engines once the state is saved: the batches before were processed with the old configuration, which a restart
    /// does not know. Fails if the state cannot be saved; the next snapshot then requests the reload again.
    fn replace(&mut self, engines: EngineSet) -> Result<(), String> {
        let before = self.processor.shared.engines();
        // The effects of handled signals, such as an open circuit, are part of the state.
        before.runtime.flush(FLUSH_TIMEOUT);
        self.is_reload_pending = false;
        self.snapshot().map_err(|error| {
            self.is_reload_pending = true;
            format!("the state cannot be saved ({error}); the reload is repeated once it is")
        })?;
        let copied = before.runtime.hand_over_to(&engines.runtime);
        copied.map_err(|error| format!("the new engines cannot restore the current state: {error}"))?;
        let old = self.processor.shared.replace(engines);
        drop(before);
        let new = self.processor.shared.engines();
        // The old engines deliver their pending alerts first, which may take a while.
        let shared = self.processor.shared.clone();
        let hand_over = move || hand_over(old, &new, &shared);
        let thread = std::thread::Builder::new().name("sre-hand-over".to_owned()).spawn(hand_over);
        thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }

    /// Writes a snapshot. Returns why that failed, if it did; it is tried again.
    fn snapshot(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let written = self
            .processor
            .save()
            .map_err(|error| error.to_string())
            .and_then(|state| self.journal.put_snapshot(self.last, &state).map_err(|error| error.to_string()));
        self.snapshot_at = Instant::now();
        let journal = &self.processor.shared.journal;
        *lock(&journal.snapshot_failure) = written.as_ref().err().cloned();
        match &written {
            Ok(()) => {
                self.bytes = 0;
                self.saved_time = self.processor.now();
                journal.covered.store(self.last, Ordering::Relaxed);
                journal.is_full.store(false, Ordering::Relaxed);
                tracing::debug!(elapsed = ?begun.elapsed(), last = self.last, "Snapshot written");
                if std::mem::take(&mut self.is_reload_pending) {
                    self.processor.shared.reload_wanted.notify_one();
                }
                if self.is_missing() {
                    tracing::warn!("Journal recreated from memory; no acknowledged request lost");
                    self.processor.shared.journal.note(None);
                    // The alerts and signals are beside the journal.
                    self.processor.shared.reload_wanted.notify_one();
                }
            }
            // Nothing is lost: the journal still has the entries.
            Err(error) => {
                journal.snapshot_failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error, "Snapshot failed; retrying");
            }
        }
        written
    }
}
