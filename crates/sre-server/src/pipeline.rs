use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_sre::{Clock, JournalEntry, JournalStore, StateReader, StateWriter, StoreError, SystemClock, lock};
use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::engine_set::EngineSet;
use crate::processor::{BatchReport, Processor};
use crate::shared::Shared;

/// The way of a batch: into the journal, with others that wait (one thread), and then into the engine (another one). Who
/// brought it is told when both have happened.
pub(crate) struct Pipeline {
    /// `None` once it is to stop.
    inlets: Mutex<Option<Inlets>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Inlets {
    journal: SyncSender<Job>,
    engine: SyncSender<Work>,
}

/// What came of a batch, for who brought it.
pub(crate) type Outcome = Result<BatchReport, IngestError>;

/// Why a batch was not taken.
#[derive(Debug)]
pub(crate) enum IngestError {
    /// Too many wait already.
    Busy,
    /// The journal cannot be written.
    Journal(StoreError),
    /// The service is about to stop.
    Stopping,
}

struct Job {
    batch: Batch,
    done: oneshot::Sender<Outcome>,
}

/// What the engine's thread is given to do.
enum Work {
    Take(u64, Job),
    /// Other rules: these engines take up what the present ones hold, or it is said why they cannot.
    Replace(Box<EngineSet>, oneshot::Sender<Result<(), String>>),
}

/// Batches that wait for the journal, and for the engine; what they hold is bounded by who brings them.
const QUEUE: usize = 256;
/// As much is written at once at most.
const MAX_COMMIT: usize = 8 << 20;
/// The engine's state is written after so long, if anything came at all.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
/// How long a change of the configuration waits for handlers of signals.
const FLUSH: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Starts the two threads. `engine` has taken up everything that is in the journal.
    pub(crate) fn start(
        engine: Processor,
        journal: Arc<dyn JournalStore>,
        snapshot_after: u64,
    ) -> std::io::Result<Self> {
        let (to_journal, jobs) = sync_channel(QUEUE);
        let (to_engine, work) = sync_channel(QUEUE);
        let inlets = Inlets { journal: to_journal, engine: to_engine.clone() };
        let (shared, of_writer) = (engine.shared.clone(), journal.clone());
        let spawn =
            |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(run);
        let threads = vec![
            spawn("sre-journal", Box::new(move || write(&jobs, &to_engine, &*of_writer, &shared)))?,
            spawn("sre-engine", Box::new(move || EngineThread::new(engine, journal, snapshot_after).run(&work)))?,
        ];
        Ok(Self { inlets: Mutex::new(Some(inlets)), threads: Mutex::new(threads) })
    }

    /// Takes a batch in; what came of it arrives once it survives the death of this process.
    pub(crate) fn send(&self, batch: Batch) -> Result<oneshot::Receiver<Outcome>, IngestError> {
        let (done, outcome) = oneshot::channel();
        let inlets = lock(&self.inlets);
        match inlets.as_ref().ok_or(IngestError::Stopping)?.journal.try_send(Job { batch, done }) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => Err(IngestError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(IngestError::Stopping),
        }
    }

    /// Goes on with other engines, which take up what the present ones hold.
    pub(crate) fn replace(&self, engines: EngineSet) -> oneshot::Receiver<Result<(), String>> {
        let (done, replaced) = oneshot::channel();
        let engine = lock(&self.inlets).as_ref().map(|inlets| inlets.engine.clone());
        // Where it is about to stop, the receiver learns that nothing was done.
        if let Some(engine) = engine {
            let _ = engine.send(Work::Replace(Box::new(engines), done));
        }
        replaced
    }

    /// Takes in what waits, writes the state down and ends.
    pub(crate) fn stop(&self) {
        drop(lock(&self.inlets).take());
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A thread that panicked has said so; what it had not acknowledged is not lost.
            let _ = thread.join();
        }
    }
}

/// Writes what waits, as much as there is at once, and hands it on.
fn write(jobs: &Receiver<Job>, engine: &SyncSender<Work>, journal: &dyn JournalStore, shared: &Shared) {
    while let Ok(first) = jobs.recv() {
        let mut size = first.batch.size();
        let mut waiting = vec![first];
        while size < MAX_COMMIT
            && let Ok(job) = jobs.try_recv()
        {
            size += job.batch.size();
            waiting.push(job);
        }
        let entries: Vec<JournalEntry<'_>> = waiting.iter().map(|job| job.batch.entry()).collect();
        let written = journal.append(&entries);
        drop(entries);
        *lock(&shared.journal.failure) = written.as_ref().err().map(StoreError::reason);
        match written {
            Ok(last) => {
                shared.journal.last.store(last, Ordering::Relaxed);
                let first = last + 1 - waiting.len() as u64;
                for (number, job) in (first..).zip(waiting) {
                    // Gone only when the engine's thread has panicked: what is in the journal is not lost.
                    if engine.send(Work::Take(number, job)).is_err() {
                        shared.is_engine_gone.store(true, Ordering::Relaxed);
                    }
                }
            }
            Err(error) => {
                shared.journal.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, batches = waiting.len(), "the journal cannot be written");
                for job in waiting {
                    let _ = job.done.send(Err(IngestError::Journal(error.clone())));
                }
            }
        }
    }
}

/// Ends the old engines, and then lets the new ones send alerts: in this order, so that none overtakes another.
fn hand_over(mut old: Arc<EngineSet>, new: &EngineSet) {
    old.wait_until_delivering();
    // Requests that began before the change still read from it.
    while let Err(shared) = Arc::try_unwrap(old).map(drop) {
        old = shared;
        std::thread::sleep(Duration::from_millis(10));
    }
    while let Err(error) = new.deliver() {
        tracing::error!(%error, "alerts wait; retrying");
        std::thread::sleep(TICK);
    }
}

struct EngineThread {
    engine: Processor,
    journal: Arc<dyn JournalStore>,
    /// The last entry that the engine has taken in, and what came since the last snapshot.
    last: u64,
    bytes: u64,
    snapshot_after: u64,
    snapshot_at: Instant,
}

impl EngineThread {
    fn new(engine: Processor, journal: Arc<dyn JournalStore>, snapshot_after: u64) -> Self {
        let last = engine.shared.journal.last.load(Ordering::Relaxed);
        Self { engine, journal, last, bytes: 0, snapshot_after, snapshot_at: Instant::now() }
    }

    fn run(mut self, work: &Receiver<Work>) {
        let mut next_tick = Instant::now();
        loop {
            match work.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Work::Take(number, job)) => self.take(number, job),
                Ok(Work::Replace(engines, done)) => {
                    let _ = done.send(self.replace(*engines));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_tick {
                self.engine.tick(SystemClock.now());
                next_tick = Instant::now() + TICK;
                if let Ok(bytes) = self.journal.size() {
                    self.engine.shared.journal.bytes.store(bytes, Ordering::Relaxed);
                }
            }
            if self.is_snapshot_due() {
                self.snapshot();
            }
        }
        if self.is_behind() {
            self.snapshot();
        }
    }

    /// Whether anything came that the last snapshot does not cover.
    fn is_behind(&self) -> bool {
        self.last > self.engine.shared.journal.covered.load(Ordering::Relaxed)
    }

    fn is_snapshot_due(&self) -> bool {
        let age = self.snapshot_at.elapsed();
        // One that could not be written is tried again, but not with every batch.
        let is_urgent = || self.bytes >= self.snapshot_after || lock(&self.engine.shared.journal.failure).is_some();
        self.is_behind() && (age >= SNAPSHOT_EVERY || (age >= TICK && is_urgent()))
    }

    fn take(&mut self, number: u64, job: Job) {
        self.last = number;
        self.bytes += job.batch.size() as u64;
        let taken = self.engine.take(job.batch);
        // Who brought it may have gone away.
        let _ = job.done.send(Ok(taken));
    }

    fn replace(&mut self, engines: EngineSet) -> Result<(), String> {
        let before = self.engine.shared.engines();
        // What handlers make of the signals so far, such as an open circuit, is part of the state.
        before.runtime.flush(FLUSH);
        let mut state = StateWriter::default();
        before.runtime.save(&mut state);
        let restored = state.finish().and_then(|state| {
            for section in StateReader::new(&state).sections() {
                let (name, mut part) = section?;
                engines.runtime.restore(name, &mut part)?;
            }
            Ok(())
        });
        restored.map_err(|error| format!("other rules cannot take up what was counted: {error}"))?;
        let old = self.engine.shared.replace(engines);
        drop(before);
        let new = self.engine.shared.engines();
        // What the old ones still have to deliver may take a while.
        let hand_over = move || hand_over(old, &new);
        let thread = std::thread::Builder::new().name("sre-hand-over".to_owned()).spawn(hand_over);
        thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }

    fn snapshot(&mut self) {
        let begun = Instant::now();
        let written = self
            .engine
            .save()
            .map_err(|error| error.to_string())
            .and_then(|state| self.journal.put_snapshot(self.last, &state).map_err(|error| error.to_string()));
        self.snapshot_at = Instant::now();
        match written {
            Ok(()) => {
                self.bytes = 0;
                self.engine.shared.journal.covered.store(self.last, Ordering::Relaxed);
                tracing::debug!(elapsed = ?begun.elapsed(), last = self.last, "wrote a snapshot");
            }
            // The journal has everything still; it is tried again.
            Err(error) => {
                self.engine.shared.journal.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error, "the snapshot cannot be written");
            }
        }
    }
}
