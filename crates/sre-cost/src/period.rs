use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sre_core::Timestamp;

/// The days and months of a time zone.
#[derive(Clone, Debug)]
pub(crate) struct Calendar(pub(crate) TimeZone);

/// A day and its month, each from its start to the start of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) day: Timestamp,
    pub(crate) day_end: Timestamp,
    pub(crate) month: Timestamp,
    pub(crate) month_end: Timestamp,
}

impl Calendar {
    pub(crate) fn at(&self, now: Timestamp) -> Period {
        let date = jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos()))
            .map_or(Date::MIN, |now| now.to_zoned(self.0.clone()).date());
        let first = date.first_of_month();
        Period {
            day: self.start(date),
            day_end: self.start(date.saturating_add(1.day())),
            month: self.start(first),
            month_end: self.start(first.saturating_add(1.month())),
        }
    }

    /// Returns the start of a day: midnight, or where a clock change skips midnight, the first instant after it.
    fn start(&self, date: Date) -> Timestamp {
        let nanos = date.to_zoned(self.0.clone()).map_or(i128::MAX, |start| start.timestamp().as_nanosecond());
        Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_start_by_the_zones_clock() {
        for (zone, now, expected) in [
            (
                "UTC",
                "2026-11-23T23:59:59.9Z",
                ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"],
            ),
            (
                "Europe/Berlin",
                "2026-11-30T23:30:00Z",
                ["2026-11-30T23:00:00Z", "2026-12-01T23:00:00Z", "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z"],
            ),
            // The day on which clocks go back has 25 hours.
            (
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"],
            ),
            // In Beirut clocks go forward at midnight: that day starts at one.
            (
                "Asia/Beirut",
                "2026-03-29T12:00:00Z",
                ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z", "2026-02-28T22:00:00Z", "2026-03-31T21:00:00Z"],
            ),
        ] {
            let period = Calendar(TimeZone::get(zone).unwrap()).at(now.parse().unwrap());
            let found = [period.day, period.day_end, period.month, period.month_end].map(|at| at.to_string());
            assert_eq!(found, expected, "{zone} {now}");
        }
    }
}
