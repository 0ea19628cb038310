use std::str::FromStr;
use std::sync::Mutex;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Unit, Zoned};
use serde::{Deserialize, Serialize};
use sre_core::private::lock;
use sre_core::{Counts, StateError, StateReader, StateWriter, Timestamp, Window};

/// Calendar periods in their text form, such as each month from a start in a time zone.
///
/// Exhaustive: these are the fields of OpenSLO's calendar-aligned time window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarSpec {
    /// Start of the first period, such as `2026-01-01 00:00:00`.
    pub start: String,
    /// IANA time zone, such as `Europe/Berlin`.
    pub time_zone: String,
    /// Length of a period: a number of `d`, `w`, `M` (months), `Q` (quarters) or `Y`.
    pub period: String,
}

/// Calendar periods at which an error budget resets. Day lengths follow the time zone, including daylight saving time.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    start: Zoned,
    unit: Unit,
    length: i64,
}

/// An invalid field of a [`CalendarSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}: {found}`: expected {expected}")]
#[non_exhaustive]
pub struct InvalidCalendar {
    /// The name of the field.
    pub field: &'static str,
    /// The value found.
    pub found: String,
    /// The valid values.
    pub expected: &'static str,
}

impl TryFrom<&CalendarSpec> for Calendar {
    type Error = InvalidCalendar;

    fn try_from(spec: &CalendarSpec) -> Result<Self, InvalidCalendar> {
        let invalid = |field, found: &str, expected| InvalidCalendar { field, found: found.to_owned(), expected };
        let zone = TimeZone::get(&spec.time_zone)
            .map_err(|_| invalid("time_zone", &spec.time_zone, "the name of a time zone, such as Europe/Berlin"))?;
        let start = DateTime::from_str(spec.start.trim())
            .and_then(|start| start.to_zoned(zone))
            .map_err(|_| invalid("start", &spec.start, "a date and time such as 2026-01-01 00:00:00"))?;
        let (unit, length) = period(&spec.period)
            .ok_or_else(|| invalid("period", &spec.period, "a number of d, w, M, Q or Y, such as 1M"))?;
        Ok(Self { start, unit, length })
    }
}

fn period(text: &str) -> Option<(Unit, i64)> {
    let letter = text.chars().last()?;
    let count: i64 = text.strip_suffix(letter)?.parse().ok().filter(|count| (1..=1_000).contains(count))?;
    match letter {
        'd' => Some((Unit::Day, count)),
        'w' => Some((Unit::Day, count * 7)),
        'M' => Some((Unit::Month, count)),
        'Q' => Some((Unit::Month, count * 3)),
        'Y' => Some((Unit::Month, count * 12)),
        _ => None,
    }
}

impl Calendar {
    /// Returns the length of a period, with months of 30 days.
    pub fn nominal_window(&self) -> Window {
        let days = self.length.unsigned_abs() * if self.unit == Unit::Month { 30 } else { 1 };
        Window::days(days)
    }

    /// Returns the start (inclusive) and end (exclusive) of the period that contains `now`.
    pub fn period_at(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let zoned = jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos())).unwrap_or(jiff::Timestamp::MAX);
        let passed = self.start.until((self.unit, &zoned.to_zoned(self.start.time_zone().clone())));
        let units = passed.map_or(0, |span| {
            if self.unit == Unit::Month { i64::from(span.get_months()) } else { i64::from(span.get_days()) }
        });
        let mut number = units.div_euclid(self.length);
        // Before the start, whole periods are rounded towards it.
        while number > i64::MIN / 2 && self.begin(number) > now {
            number -= 1;
        }
        while self.begin(number + 1) <= now && self.begin(number + 1) > self.begin(number) {
            number += 1;
        }
        (self.begin(number), self.begin(number + 1))
    }

    fn begin(&self, number: i64) -> Timestamp {
        let units = number.saturating_mul(self.length);
        let span = if self.unit == Unit::Month { Span::new().try_months(units) } else { Span::new().try_days(units) };
        let begin = span.and_then(|span| self.start.checked_add(span)).map(|begin| begin.timestamp().as_nanosecond());
        let beyond = if number < 0 { i64::MIN } else { i64::MAX };
        Timestamp::from_nanos(begin.ok().and_then(|nanos| i64::try_from(nanos).ok()).unwrap_or(beyond))
    }
}

/// Counts of the current period.
#[derive(Debug)]
pub(crate) struct PeriodCounts {
    calendar: Calendar,
    present: Mutex<Present>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Present {
    begin: Timestamp,
    end: Timestamp,
    counts: Counts,
}

impl PeriodCounts {
    pub(crate) fn new(calendar: Calendar) -> Self {
        Self { calendar, present: Mutex::default() }
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&*lock(&self.present));
    }

    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        *lock(&self.present) = state.take()?;
        Ok(())
    }

    /// Counts an event. Events of past periods are ignored.
    pub(crate) fn record(&self, time: Timestamp, good: bool) {
        let mut present = lock(&self.present);
        if time >= present.end {
            let (begin, end) = self.calendar.period_at(time);
            *present = Present { begin, end, counts: Counts::default() };
        }
        if time >= present.begin {
            if good {
                present.counts.good += 1;
            } else {
                present.counts.bad += 1;
            }
        }
    }

    /// Returns the counts of the period that contains `now`.
    pub(crate) fn counts(&self, now: Timestamp) -> Counts {
        let present = lock(&self.present);
        if (present.begin..present.end).contains(&now) { present.counts } else { Counts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(start: &str, time_zone: &str, period: &str) -> Calendar {
        let spec = CalendarSpec { start: start.into(), time_zone: time_zone.into(), period: period.into() };
        Calendar::try_from(&spec).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn periods_begin_by_the_local_time_of_their_time_zone() {
        for (start, zone, period, now, begin, end) in [
            (
                "2022-01-01 12:00:00",
                "America/New_York",
                "1M",
                "2026-03-10T00:00:00Z",
                "2026-03-01T17:00:00Z",
                "2026-04-01T16:00:00Z",
            ),
            (
                "2026-01-01 00:00:00",
                "UTC",
                "1M",
                "2026-02-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
            ),
            (
                "2026-01-01 00:00:00",
                "UTC",
                "1Q",
                "2026-06-30T23:59:59Z",
                "2026-04-01T00:00:00Z",
                "2026-07-01T00:00:00Z",
            ),
            (
                "2024-01-31 00:00:00",
                "UTC",
                "1M",
                "2024-02-29T12:00:00Z",
                "2024-02-29T00:00:00Z",
                "2024-03-31T00:00:00Z",
            ),
            (
                "2026-03-28 00:00:00",
                "Europe/Berlin",
                "1d",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "2026-01-05 00:00:00",
                "UTC",
                "2w",
                "2026-01-20T00:00:00Z",
                "2026-01-19T00:00:00Z",
                "2026-02-02T00:00:00Z",
            ),
            (
                "2030-01-01 00:00:00",
                "UTC",
                "1Y",
                "2026-06-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(
                calendar(start, zone, period).period_at(time(now)),
                (time(begin), time(end)),
                "{start} {period} {now}"
            );
        }
    }

    #[test]
    fn an_invalid_field_is_named() {
        for (start, zone, period, field) in [
            ("soon", "UTC", "1M", "start"),
            ("2026-01-01 00:00:00", "Moon/Base", "1M", "time_zone"),
            ("2026-01-01 00:00:00", "UTC", "1m", "period"),
            ("2026-01-01 00:00:00", "UTC", "0M", "period"),
            ("2026-01-01 00:00:00", "UTC", "é", "period"),
        ] {
            let spec = CalendarSpec { start: start.into(), time_zone: zone.into(), period: period.into() };
            assert_eq!(Calendar::try_from(&spec).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_new_period_begins_without_events() {
        let counts = PeriodCounts::new(calendar("2026-01-01 00:00:00", "UTC", "1M"));
        counts.record(time("2026-01-31T23:59:59Z"), false);
        assert_eq!(counts.counts(time("2026-01-31T23:59:59.5Z")), Counts { good: 0, bad: 1 });
        assert_eq!(counts.counts(time("2026-02-01T00:00:00Z")), Counts::default());
        counts.record(time("2026-02-01T00:00:00Z"), true);
        counts.record(time("2026-01-31T00:00:00Z"), false);
        assert_eq!(counts.counts(time("2026-02-02T00:00:00Z")), Counts { good: 1, bad: 0 });
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_panic() {
        for period in ["1d", "1000Y", "1M"] {
            for nanos in [i64::MIN, 0, i64::MAX] {
                calendar("2026-01-01 00:00:00", "Asia/Tokyo", period).period_at(Timestamp::from_nanos(nanos));
            }
        }
    }
}
