use std::borrow::Cow;
use std::time::Duration;

use super::ExportError;

/// A backend's result for a batch. The counts and the number of records to retry add up to the size of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Records that the backend accepted.
    pub accepted: u64,
    /// Records that have no equivalent in the backend, and were not sent.
    pub ignored: u64,
    /// Records that the backend rejected permanently, by reason.
    pub rejected: Vec<Rejection>,
    /// Indices of records that the backend may accept later, in ascending order: of the batch's events, or of its metrics
    /// followed by its snapshots.
    pub retry: Vec<usize>,
    /// How long the backend asks to wait before the next batch.
    pub retry_after: Option<Duration>,
}

/// Records that a backend rejected permanently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// Number of records.
    pub count: u64,
    /// The backend's reason, shortened and without secrets.
    pub reason: Cow<'static, str>,
}

impl Rejection {
    /// Creates a rejection of `count` records.
    pub fn new(count: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { count, reason: reason.into() }
    }
}

impl ExportReport {
    /// Creates a report of `count` accepted records.
    pub fn accepted(count: usize) -> Self {
        Self { accepted: count as u64, ..Self::default() }
    }

    /// Adds records that have no equivalent in the backend.
    #[must_use]
    pub fn with_ignored(mut self, count: usize) -> Self {
        self.ignored += count as u64;
        self
    }

    /// Adds permanently rejected records.
    #[must_use]
    pub fn with_rejected(mut self, count: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        if count > 0 {
            self.rejected.push(Rejection::new(count, reason));
        }
        self
    }

    /// Adds indices of records to send again.
    #[must_use]
    pub fn with_retry(mut self, indices: impl IntoIterator<Item = usize>) -> Self {
        self.retry.extend(indices);
        self
    }

    /// Adds records whose request failed after another request of the same batch had succeeded. They are sent again if a
    /// retry may succeed, and rejected otherwise.
    #[must_use]
    pub fn with_failed(mut self, indices: &[usize], error: &ExportError) -> Self {
        if error.is_temporary() {
            self.retry_after = self.retry_after.max(error.retry_after());
            return self.with_retry(indices.iter().copied());
        }
        self.with_rejected(indices.len() as u64, error.to_string())
    }

    /// Adds `first` to the indices, for a request with the records of a batch from that index on.
    #[must_use]
    pub fn offset(mut self, first: usize) -> Self {
        self.retry.iter_mut().for_each(|index| *index += first);
        self
    }

    /// Combines the reports of two requests of the same batch.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.ignored += other.ignored;
        self.rejected.extend(other.rejected);
        self.retry.extend(other.retry);
        self.retry.sort_unstable();
        self.retry_after = self.retry_after.max(other.retry_after);
        self
    }

    /// Returns the number of permanently rejected records.
    pub fn rejected_count(&self) -> u64 {
        self.rejected.iter().map(|rejection| rejection.count).sum()
    }
}
