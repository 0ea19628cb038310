use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use sre_core::Timestamp;

use crate::Matcher;

/// Holds back matching alerts during planned maintenance. Those that still fire when the window ends are sent then.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MaintenanceWindow {
    /// The window's name, for reports.
    pub name: String,
    /// The conditions an alert must meet, all of them; without any, every alert is held.
    pub matchers: Vec<Matcher>,
    /// When the window is open.
    pub schedule: Schedule,
}

impl MaintenanceWindow {
    /// Creates a window.
    pub fn new(name: impl Into<String>, matchers: Vec<Matcher>, schedule: Schedule) -> Self {
        Self { name: name.into(), matchers, schedule }
    }
}

/// When a maintenance window is open.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// Once.
    Once {
        /// When it opens.
        from: Timestamp,
        /// When it closes.
        until: Timestamp,
    },
    /// Every week. Where `to` is not after `from`, the window closes on the next day.
    Weekly {
        /// The days on which it opens.
        days: Vec<Weekday>,
        /// The time of day at which it opens.
        from: Time,
        /// The time of day at which it closes.
        to: Time,
        /// The time zone of days and times.
        time_zone: TimeZone,
    },
}

impl Schedule {
    /// Returns when the window closes, if it is open at `now`.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Self::Weekly { days, from, to, time_zone } => {
                let local = jiff::Timestamp::from_nanosecond(now.as_nanos().into()).ok()?.to_zoned(time_zone.clone());
                // It may have opened today, or yesterday and be open past midnight.
                let opened = [local.date(), local.date().yesterday().ok()?];
                opened.into_iter().filter(|date| days.contains(&date.weekday())).find_map(|date| {
                    let closes = if to > from { date } else { date.tomorrow().ok()? };
                    let at = |date: Date, time: Time| {
                        let instant = date.to_datetime(time).to_zoned(time_zone.clone()).ok()?.timestamp();
                        Some(Timestamp::from_nanos(i64::try_from(instant.as_nanosecond()).ok()?))
                    };
                    let (from, until) = (at(date, *from)?, at(closes, *to)?);
                    (from <= now && now < until).then_some(until)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_secs(text.parse::<jiff::Timestamp>().unwrap().as_second())
    }

    #[test]
    fn a_weekly_window_spans_midnight_in_its_own_time_zone() {
        let schedule = Schedule::Weekly {
            days: vec![Weekday::Saturday],
            from: Time::constant(22, 0, 0, 0),
            to: Time::constant(2, 0, 0, 0),
            time_zone: TimeZone::get("Europe/Berlin").unwrap(),
        };
        // Saturday, 21 November 2026, 22:00 in Berlin is 21:00 UTC.
        let until = at("2026-11-22T01:00:00Z");
        assert_eq!(schedule.open_until(at("2026-11-21T20:59:59Z")), None);
        assert_eq!(schedule.open_until(at("2026-11-21T21:00:00Z")), Some(until));
        assert_eq!(schedule.open_until(at("2026-11-22T00:59:59Z")), Some(until));
        assert_eq!(schedule.open_until(until), None);
        assert_eq!(schedule.open_until(at("2026-11-22T21:30:00Z")), None, "a Sunday");
        // Clocks go back an hour at 3:00 on 25 October 2026.
        assert_eq!(schedule.open_until(at("2026-10-24T20:30:00Z")), Some(at("2026-10-25T00:00:00Z")));
    }
}
