use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::time::nanos;
use crate::{StateError, StateReader, StateWriter, Timestamp};

/// A ring of time buckets of equal width, of which the newest overwrites the oldest.
#[derive(Debug)]
pub(crate) struct Ring<B> {
    width: i64,
    slots: Box<[B]>,
    /// The bucket that starts at `newest × width`; `None` before the first sample.
    newest: Option<i64>,
    dropped: u64,
}

impl<B: Default + Clone> Ring<B> {
    pub(crate) fn new(width: Duration, slots: usize) -> Self {
        Self { width: nanos(width).max(1), slots: vec![B::default(); slots].into(), newest: None, dropped: 0 }
    }

    /// Creates a ring that covers `window` with `parts` buckets.
    pub(crate) fn covering(window: Duration, parts: usize) -> Self {
        let width = Duration::from_nanos((nanos(window).unsigned_abs()).div_ceil(parts as u64).max(1));
        Self::new(width, parts + 1)
    }

    /// Counts a sample that is no valid number as dropped.
    pub(crate) fn drop_invalid(&mut self) {
        self.dropped += 1;
    }

    /// Returns the number of samples that were older than every bucket, or invalid.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn bucket_of(&self, time: Timestamp) -> i64 {
        time.as_nanos().div_euclid(self.width)
    }

    /// Returns the bucket that contains `time`, or `None` if it is older than every bucket.
    pub(crate) fn slot(&mut self, time: Timestamp) -> Option<&mut B> {
        let bucket = self.bucket_of(time);
        let count = self.slots.len() as i64;
        match self.newest {
            Some(newest) if bucket <= newest => {
                if bucket <= newest - count {
                    self.dropped += 1;
                    return None;
                }
            }
            Some(newest) => {
                let passed = (bucket - newest).min(count);
                for skipped in bucket - passed + 1..=bucket {
                    self.slots[skipped.rem_euclid(count) as usize] = B::default();
                }
                self.newest = Some(bucket);
            }
            None => self.newest = Some(bucket),
        }
        Some(&mut self.slots[bucket.rem_euclid(count) as usize])
    }

    /// Saves the buckets in use with their start times, oldest first.
    pub(crate) fn save(&self, state: &mut StateWriter, is_used: impl Fn(&B) -> bool)
    where
        B: Serialize,
    {
        let used: Vec<(i64, &B)> = self.buckets().filter(|(_, held)| is_used(held)).collect();
        state.put(&(self.dropped, used));
    }

    /// Returns the buckets with their start times in nanoseconds, oldest first.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (i64, &B)> {
        let count = self.slots.len() as i64;
        let newest = self.newest.unwrap_or(i64::MIN / 2);
        let buckets = (newest - count + 1..=newest).filter(|_| self.newest.is_some());
        buckets.map(move |bucket| (bucket.saturating_mul(self.width), &self.slots[bucket.rem_euclid(count) as usize]))
    }

    /// Restores saved buckets, also those of a ring with another width. `add` merges a saved bucket into the bucket that contains
    /// its start, or returns an error.
    pub(crate) fn restore(
        &mut self,
        state: &mut StateReader<'_>,
        mut add: impl FnMut(&mut B, B) -> Result<(), StateError>,
    ) -> Result<(), StateError>
    where
        B: DeserializeOwned,
    {
        let dropped = state.take()?;
        self.restore_after(dropped, state, &mut add)
    }

    /// Restores saved buckets whose number of dropped samples was read already.
    pub(crate) fn restore_after(
        &mut self,
        dropped: u64,
        state: &mut StateReader<'_>,
        mut add: impl FnMut(&mut B, B) -> Result<(), StateError>,
    ) -> Result<(), StateError>
    where
        B: DeserializeOwned,
    {
        let used: Vec<(i64, B)> = state.take()?;
        for (begin, held) in used {
            if let Some(bucket) = self.slot(Timestamp::from_nanos(begin)) {
                add(bucket, held)?;
            }
        }
        self.dropped = dropped;
        Ok(())
    }

    /// Returns the buckets of the window that ends at `now`, including the one that contains its start.
    pub(crate) fn window(&self, window: Duration, now: Timestamp) -> impl Iterator<Item = &B> {
        let count = self.slots.len() as i64;
        let newest = self.newest.unwrap_or(i64::MIN / 2);
        let last = self.bucket_of(now).min(newest);
        let first = self.bucket_of(now.saturating_sub(window)).max(newest - count + 1);
        let length = usize::try_from(last - first + 1).unwrap_or(0);
        let start = first.rem_euclid(count) as usize;
        let (early, late) = self.slots.split_at(start);
        late.iter().chain(early).take(length)
    }
}
