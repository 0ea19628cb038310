use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sre_core::{Alert, Timestamp};

use crate::Matcher;
use crate::matcher::all_match;

/// Somebody's decision to hear nothing of certain alerts for a while. Alerts that it matches are held, not dropped: what
/// still fires when it ends is sent then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// All of them must match; at least one.
    pub matchers: Vec<Matcher>,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who decided it.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// What the manager calls a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SilenceId(pub u64);

impl SilenceId {
    /// One that no other process gives; every reader of JSON can hold it.
    fn random() -> Self {
        Self(fastrand::u64(1..1 << 53))
    }
}

/// Times that are planned to be noisy. What still fires when they end is sent then.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenanceWindow {
    /// For reports.
    pub name: String,
    /// All of them must match; none matches every alert.
    pub matchers: Vec<Matcher>,
    /// When.
    pub schedule: Schedule,
}

/// When a maintenance window is open.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Once.
    Once {
        /// From when on.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// On certain days of every week; where `to` is not after `from`, until `to` of the next day.
    Weekly {
        /// The days on which it opens.
        days: Vec<Weekday>,
        /// When it opens.
        from: Time,
        /// When it closes.
        to: Time,
        /// Whose days and hours these are.
        time_zone: TimeZone,
    },
}

/// A silence that nobody could mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSilence {
    /// It would silence everything.
    #[error("`matchers`: found none, expected at least one: this would silence everything")]
    NoMatchers,
    /// It would never be in force.
    #[error("`ends_at`: found an end that is not after the start, expected a later one")]
    Empty,
}

impl Silence {
    pub(crate) fn check(&self) -> Result<(), InvalidSilence> {
        if self.matchers.is_empty() {
            return Err(InvalidSilence::NoMatchers);
        }
        if self.ends_at <= self.starts_at {
            return Err(InvalidSilence::Empty);
        }
        Ok(())
    }
}

impl Schedule {
    /// Until when it is open, where it is open at `now`.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Self::Weekly { days, from, to, time_zone } => {
                let here = jiff::Timestamp::from_nanosecond(now.as_nanos().into()).ok()?.to_zoned(time_zone.clone());
                // It may have opened today, or yesterday and go on past midnight.
                let opened = [here.date(), here.date().yesterday().ok()?];
                opened.into_iter().filter(|date| days.contains(&date.weekday())).find_map(|date| {
                    let closes = if to > from { date } else { date.tomorrow().ok()? };
                    let at = |date: jiff::civil::Date, time: Time| {
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

/// Every silence and maintenance window of a manager.
#[derive(Debug, Default)]
pub(crate) struct Silencer {
    silences: Vec<(SilenceId, Silence)>,
    windows: Vec<MaintenanceWindow>,
}

impl Silencer {
    pub(crate) fn new(windows: Vec<MaintenanceWindow>, silences: Vec<Silence>) -> Self {
        let mut silencer = Self { windows, ..Self::default() };
        silences.into_iter().for_each(|silence| silencer.insert(SilenceId::random(), silence));
        silencer
    }

    pub(crate) fn add(&mut self, silence: Silence) -> Result<SilenceId, InvalidSilence> {
        silence.check()?;
        let id = SilenceId::random();
        self.insert(id, silence);
        Ok(id)
    }

    /// Takes in a silence that is known to be valid.
    pub(crate) fn insert(&mut self, id: SilenceId, silence: Silence) {
        self.silences.retain(|(known, _)| *known != id);
        self.silences.push((id, silence));
    }

    /// Takes a silence away; false where there is none of that id.
    pub(crate) fn remove(&mut self, id: SilenceId) -> bool {
        let before = self.silences.len();
        self.silences.retain(|(known, _)| *known != id);
        self.silences.len() < before
    }

    /// The silences that are not over.
    pub(crate) fn silences(&mut self, now: Timestamp) -> Vec<(SilenceId, Silence)> {
        self.silences.retain(|(_, silence)| silence.ends_at > now);
        self.silences.clone()
    }

    /// Until when the alert is silenced, where it is. What silencer it then may be followed by something else that does.
    pub(crate) fn until(&self, alert: &Alert, now: Timestamp) -> Option<Timestamp> {
        let silences = self.silences.iter().filter_map(|(_, silence)| {
            let in_force = silence.starts_at <= now && now < silence.ends_at;
            (in_force && all_match(&silence.matchers, alert)).then_some(silence.ends_at)
        });
        let windows = self
            .windows
            .iter()
            .filter_map(|window| window.schedule.open_until(now).filter(|_| all_match(&window.matchers, alert)));
        silences.chain(windows).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_secs(text.parse::<jiff::Timestamp>().unwrap().as_second())
    }

    #[test]
    fn a_weekly_window_passes_midnight_and_keeps_to_its_own_time_zone() {
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
        // In the night to 25 October 2026 the clocks go back at 3:00: an hour more.
        assert_eq!(schedule.open_until(at("2026-10-24T20:30:00Z")), Some(at("2026-10-25T00:00:00Z")));
    }

    #[test]
    fn only_what_matches_is_muted_and_only_in_its_time() {
        let mut silencer = Silencer::default();
        let (start, end) = (Timestamp::from_secs(100), Timestamp::from_secs(200));
        let silence = Silence {
            matchers: vec![Matcher::equal("agent", "support")],
            starts_at: start,
            ends_at: end,
            author: "ann".into(),
            comment: String::new(),
        };
        assert_eq!(silencer.add(Silence { matchers: vec![], ..silence.clone() }), Err(InvalidSilence::NoMatchers));
        assert_eq!(silencer.add(Silence { ends_at: start, ..silence.clone() }), Err(InvalidSilence::Empty));
        let id = silencer.add(silence).unwrap();
        let alert = Alert { agent_id: "support".into(), ..Alert::new("t", "m") };
        assert_eq!(silencer.until(&alert, Timestamp::from_secs(99)), None);
        assert_eq!(silencer.until(&alert, start), Some(end));
        assert_eq!(silencer.until(&alert, end), None);
        assert_eq!(silencer.until(&Alert::new("t", "m"), start), None);
        assert_eq!(silencer.silences(start).len(), 1);
        assert!(silencer.remove(id) && !silencer.remove(id));
        assert_eq!(silencer.until(&alert, start), None);
    }
}
