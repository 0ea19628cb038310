use std::time::Duration;

use serde::Serialize;

use super::AdapterError;
use crate::Timestamp;

/// Limits on the records that an adapter accepts, and the clock by which their runs time out.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug)]
pub struct IngestLimits {
    /// The latest accepted time of a record.
    pub not_after: Timestamp,
    /// When the records arrived, by the clock of a live service. Runs then time out by that clock only, so that no sender's
    /// time ends the runs of another. `None` for a recording, in which time passes by its records.
    pub arrived: Option<Timestamp>,
    /// The maximum number of rejected records listed in the report.
    pub max_errors: usize,
}

impl Default for IngestLimits {
    /// Returns limits that accept any time, as for a recording, and list up to 20 errors.
    fn default() -> Self {
        Self { not_after: Timestamp::from_nanos(i64::MAX), arrived: None, max_errors: 20 }
    }
}

impl IngestLimits {
    /// Creates limits for a live service: records arrive at `arrived` by its clock, and are rejected if their time is more than
    /// `max_ahead` later.
    pub fn live(arrived: Timestamp, max_ahead: Duration) -> Self {
        Self { arrived: Some(arrived), ..Self::not_after(arrived.saturating_add(max_ahead)) }
    }

    /// Creates limits for a recording, of which records later than `time` are rejected.
    pub fn not_after(time: Timestamp) -> Self {
        Self { not_after: time, ..Self::default() }
    }

    /// Returns an error if any time of a record is too late.
    pub fn check(&self, times: impl IntoIterator<Item = Timestamp>) -> Result<(), AdapterError> {
        match times.into_iter().find(|time| *time > self.not_after) {
            Some(found) => Err(AdapterError::TooLate { found, not_after: self.not_after }),
            None => Ok(()),
        }
    }
}

/// The result of ingesting a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct IngestReport {
    /// Accepted records: an event was emitted for them, or may be emitted later.
    pub accepted: u64,
    /// Invalid records.
    pub rejected: u64,
    /// Valid records that produce no event, such as log records that are not evaluations.
    #[serde(skip)]
    pub unused: u64,
    /// The first rejected records, with their lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<LineError>,
}

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct LineError {
    /// The line of the body, from 1.
    pub line: u64,
    /// What was found and what was expected.
    pub error: String,
}

impl IngestReport {
    /// Creates a report of one accepted record.
    pub fn accepted() -> Self {
        Self { accepted: 1, ..Self::default() }
    }

    /// Adds rejected records and the reason, of which up to 1,000 bytes are kept: it may quote a text of any length.
    pub fn reject(&mut self, records: u64, error: impl Into<String>) {
        const MAX: usize = 1_000;
        self.rejected += records;
        let mut error = error.into();
        if error.len() > MAX {
            error.truncate(error.floor_char_boundary(MAX));
            error.push('…');
            error.shrink_to_fit();
        }
        self.errors.push(LineError { line: 1, error });
    }

    /// Adds the result of one line of a body.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut() {
        let mut report = IngestReport::default();
        report.reject(2, "é".repeat(1_000));
        assert_eq!((report.rejected, &*report.errors[0].error), (2, &*("é".repeat(500) + "…")));
        report.reject(1, "short");
        assert_eq!(report.errors[1].error, "short");
    }
}
