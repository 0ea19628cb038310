use std::borrow::Cow;
use std::time::Duration;

use super::ExportError;

/// What a backend did with a batch. The counts and the records to retry add up to the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Records that the backend took.
    pub accepted: u64,
    /// Records that have no form in the backend, and were not sent.
    pub ignored: u64,
    /// Records that the backend refused for good, by reason.
    pub rejected: Vec<Rejection>,
    /// The places in the batch of events that the backend did not take now and may take later, in ascending order.
    pub retry: Vec<usize>,
    /// How long the backend asks to wait before the next batch.
    pub retry_after: Option<Duration>,
}

/// Records that a backend refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// How many.
    pub count: u64,
    /// Why, in the backend's words, shortened and without secrets.
    pub reason: Cow<'static, str>,
}

impl ExportReport {
    /// Returns the report that so many records were taken.
    pub fn accepted(count: usize) -> Self {
        Self { accepted: count as u64, ..Self::default() }
    }

    /// Returns the report with records that have no form in the backend.
    #[must_use]
    pub fn with_ignored(mut self, count: usize) -> Self {
        self.ignored += count as u64;
        self
    }

    /// Returns the report with records that were refused for good.
    #[must_use]
    pub fn with_rejected(mut self, count: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        if count > 0 {
            self.rejected.push(Rejection { count, reason: reason.into() });
        }
        self
    }

    /// Returns the report with the places of events to send again.
    #[must_use]
    pub fn with_retry(mut self, places: impl IntoIterator<Item = usize>) -> Self {
        self.retry.extend(places);
        self
    }

    /// Returns the report with events whose request failed after an earlier one of the same batch had succeeded: they are
    /// sent again where that may help, else they are refused.
    #[must_use]
    pub fn with_failed(mut self, places: &[usize], error: &ExportError) -> Self {
        if error.is_retryable() || error.is_too_large() || error.is_unauthorized() {
            self.retry_after = self.retry_after.max(error.retry_after());
            return self.with_retry(places.iter().copied());
        }
        self.with_rejected(places.len() as u64, error.to_string())
    }

    /// Returns the report of this and another request of the same batch.
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

    /// Returns how many records the backend refused for good.
    pub fn rejected_count(&self) -> u64 {
        self.rejected.iter().map(|rejection| rejection.count).sum()
    }
}
