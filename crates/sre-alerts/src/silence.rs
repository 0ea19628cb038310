use serde::{Deserialize, Serialize};
use sre_core::{Alert, Timestamp};

use crate::matcher::all_match;
use crate::{MaintenanceWindow, Matcher};

/// Suppresses matching notifications for a period of time.
///
/// Matching alerts are held, not dropped: those that still fire when the silence ends are sent then. Later versions may
/// have more fields: end with `..Silence::new(matchers, starts_at, ends_at)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// The conditions an alert must meet, all of them; at least one.
    pub matchers: Vec<Matcher>,
    /// When the silence begins.
    pub starts_at: Timestamp,
    /// When the silence ends.
    pub ends_at: Timestamp,
    /// Who created it.
    pub author: String,
    /// Why it was created.
    pub comment: String,
}

/// Identifies a silence.
///
/// Exhaustive: it is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SilenceId(pub u64);

impl SilenceId {
    /// Unique across processes, and within the integers that every JSON reader represents exactly.
    fn random() -> Self {
        Self(fastrand::u64(1..1 << 53))
    }
}

/// A silence that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSilence {
    /// Without matchers, it would silence every alert.
    #[error("`matchers`: found none, expected at least one: without any, every alert would be silenced")]
    NoMatchers,
    /// It ends before it begins.
    #[error("`ends_at`: found a time that is not after `starts_at`, expected a later one")]
    Empty,
}

impl Silence {
    /// Creates a silence without author and comment.
    pub const fn new(matchers: Vec<Matcher>, starts_at: Timestamp, ends_at: Timestamp) -> Self {
        Self { matchers, starts_at, ends_at, author: String::new(), comment: String::new() }
    }

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

/// The silences and maintenance windows of a manager.
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

    /// Adds a silence that has been checked.
    pub(crate) fn insert(&mut self, id: SilenceId, silence: Silence) {
        self.silences.retain(|(known, _)| *known != id);
        self.silences.push((id, silence));
    }

    /// Removes a silence; false if there is none with this id.
    pub(crate) fn remove(&mut self, id: SilenceId) -> bool {
        let before = self.silences.len();
        self.silences.retain(|(known, _)| *known != id);
        self.silences.len() < before
    }

    /// Returns the silences that have not ended.
    pub(crate) fn silences(&mut self, now: Timestamp) -> Vec<(SilenceId, Silence)> {
        self.silences.retain(|(_, silence)| silence.ends_at > now);
        self.silences.clone()
    }

    /// Returns until when the alert is silenced, if it is: the latest end of what silences it now. Another silence may have
    /// begun by then.
    pub(crate) fn silenced_until(&self, alert: &Alert, now: Timestamp) -> Option<Timestamp> {
        let silences = self.silences.iter().filter_map(|(_, silence)| {
            let is_active = silence.starts_at <= now && now < silence.ends_at;
            (is_active && all_match(&silence.matchers, alert)).then_some(silence.ends_at)
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

    #[test]
    fn a_silence_applies_to_matching_alerts_while_it_is_active() {
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
        assert_eq!(silencer.silenced_until(&alert, Timestamp::from_secs(99)), None);
        assert_eq!(silencer.silenced_until(&alert, start), Some(end));
        assert_eq!(silencer.silenced_until(&alert, end), None);
        assert_eq!(silencer.silenced_until(&Alert::new("t", "m"), start), None);
        assert_eq!(silencer.silences(start).len(), 1);
        assert!(silencer.remove(id) && !silencer.remove(id));
        assert_eq!(silencer.silenced_until(&alert, start), None);
    }
}
