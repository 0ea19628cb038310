use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{JournalStore, StoreError, Timestamp};

use crate::batch::{Batch, time_of};
use crate::body_memory::BodyMemory;
use crate::processor::Processor;

/// How long a start waits in all for exporters to spool replayed events, before events are dropped.
const MAX_EXPORT_WAIT: Duration = Duration::from_secs(5);

/// Processes the journal's entries after the snapshot: one thread reads them, another processes them. Those in between take
/// their memory from `memory`.
pub(crate) fn replay(
    journal: &SqliteJournal,
    after: u64,
    mut processor: Processor,
    memory: &Arc<BodyMemory>,
) -> Result<(u64, Processor), StoreError> {
    let mut last = after;
    let shared = processor.shared.clone();
    std::thread::scope(|scope| {
        let (entries, queue) = sync_channel::<Replayed>(64);
        let processing = scope.spawn(move || {
            let mut patience = MAX_EXPORT_WAIT;
            for entry in queue {
                match entry {
                    Replayed::Time(time) => processor.advance_to(time),
                    Replayed::Batch(batch) => drop(processor.process(batch)),
                }
                wait_for_exporters(&processor, &mut patience);
            }
            processor
        });
        journal.replay(after, &mut |number, entry| {
            last = number;
            if let Some(time) = time_of(&entry) {
                return entries.send(Replayed::Time(time)).is_ok();
            }
            let permit = memory.wait_for(4 * entry.body.len());
            let batch = Batch::from_entry(&entry).map_err(|error| error.to_string());
            match batch.and_then(|batch| batch.decode(&shared).map_err(|error| error.to_string())) {
                Ok(batch) => entries.send(Replayed::Batch(batch.with_memory(permit))).is_ok(),
                Err(error) => {
                    journal.set_aside(number, &entry, error);
                    true
                }
            }
        })?;
        drop(entries);
        let processor = processing.join().map_err(|_| {
            StoreError::unavailable(
                "journal",
                format!("replaying the entries after {after} panicked; please report this bug"),
            )
        })?;
        Ok((last, processor))
    })
}

/// An entry of the journal on its way to the thread that processes it.
enum Replayed {
    Time(Timestamp),
    Batch(Batch),
}

/// Waits until the exporters have room for more events: a replay is faster than a disk.
fn wait_for_exporters(processor: &Processor, patience: &mut Duration) {
    let begun = Instant::now();
    for outbox in processor.shared.engines().runtime.exporters() {
        let left = patience.saturating_sub(begun.elapsed());
        let _ = outbox.wait_for_capacity(left);
    }
    *patience = patience.saturating_sub(begun.elapsed());
}
