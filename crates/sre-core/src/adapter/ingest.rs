use serde::Serialize;

use super::AdapterError;
use crate::Timestamp;

/// What an adapter accepts of a body.
#[derive(Clone, Copy, Debug)]
pub struct IngestLimits {
    /// The latest time that a record may have: one clock that is far ahead would end the runs of everybody else.
    pub not_after: Timestamp,
    /// At most so many rejected records are reported one by one.
    pub max_errors: usize,
}

impl Default for IngestLimits {
    /// Any time, as for a recording; 20 errors.
    fn default() -> Self {
        Self { not_after: Timestamp::from_nanos(i64::MAX), max_errors: 20 }
    }
}

impl IngestLimits {
    /// Returns limits for a live service, which accepts no record that is later than `time`.
    pub fn not_after(time: Timestamp) -> Self {
        Self { not_after: time, ..Self::default() }
    }

    /// Returns an error when one of a record's times is too late.
    pub fn check(&self, times: impl IntoIterator<Item = Timestamp>) -> Result<(), AdapterError> {
        match times.into_iter().find(|time| *time > self.not_after) {
            Some(found) => Err(AdapterError::TooLate { found, not_after: self.not_after }),
            None => Ok(()),
        }
    }
}

/// What an adapter made of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct IngestReport {
    /// Records that were taken in: an event came of them, or may yet.
    pub accepted: u64,
    /// Records that are invalid.
    pub rejected: u64,
    /// Valid records that no event is made of, such as log records that are no evaluations.
    #[serde(skip)]
    pub unused: u64,
    /// The first of the rejected, with their lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<LineError>,
}

/// Why a record was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct LineError {
    /// The line of the body, from 1.
    pub line: u64,
    /// What was found, and what was expected.
    pub error: String,
}

impl IngestReport {
    /// Returns the report on one record that was taken in.
    pub fn accepted() -> Self {
        Self { accepted: 1, ..Self::default() }
    }

    /// Adds what is wrong with the record.
    pub fn reject(&mut self, records: u64, error: impl Into<String>) {
        self.rejected += records;
        self.errors.push(LineError { line: 1, error: error.into() });
    }

    /// Adds what came of one line of a body.
    pub fn add_line(&mut self, line: u64, outcome: Result<Self, AdapterError>, limits: &IngestLimits) {
        let of_line = outcome.unwrap_or_else(|error| {
            let mut report = Self::default();
            report.reject(1, error.to_string());
            report
        });
        self.accepted += of_line.accepted;
        self.rejected += of_line.rejected;
        self.unused += of_line.unused;
        let room = limits.max_errors.saturating_sub(self.errors.len());
        self.errors.extend(of_line.errors.into_iter().take(room).map(|error| LineError { line, ..error }));
    }
}
