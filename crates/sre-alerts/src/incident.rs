use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};
use sre_core::{Alert, AlertId, Severity, Timestamp};

/// What stands for the key of an incident: 128 bits, so that two keys never meet, under a seed that nobody knows, so that
/// nobody can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint(u128);

/// What is open, and what was sent of it last.
///
/// The map's entries are small and hold what a repetition needs; everything else is a pointer away. A dedup hit so costs
/// a hash of the key and one look into memory, however many incidents there are.
#[derive(Debug)]
pub(crate) struct Incidents {
    open: HashMap<Fingerprint, Incident, BuildHasherDefault<AlreadyHashed>>,
    /// When to look whether an incident is too old, in that order: the timeout is the same for all.
    expiries: VecDeque<(Timestamp, Fingerprint)>,
    seed: (u64, u64),
    dedup_window: Duration,
    timeout: Duration,
    max: usize,
    forgotten: u64,
}

/// An open incident.
#[derive(Debug)]
pub(crate) struct Incident {
    last_sent: Timestamp,
    severity: Severity,
    pub(crate) detail: Box<Detail>,
}

/// What a repetition does not need to know.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    /// The channels that the trigger went to, by their lanes' numbers.
    pub(crate) lanes: Vec<u32>,
    /// What was sent last: its resolution may say less, and somebody may want it again.
    pub(crate) last: Option<(Option<AlertId>, Arc<Alert>)>,
    pub(crate) acknowledged: bool,
}

/// What an alert means for its incident.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The same was sent a moment ago.
    Duplicate,
    /// There is nothing to resolve.
    NotOpen,
    /// It is to be sent.
    Fire,
    /// It ends the incident.
    Close(Incident),
}

impl Incidents {
    pub(crate) fn new(dedup_window: Duration, timeout: Duration, max: usize) -> Self {
        Self {
            open: HashMap::default(),
            expiries: VecDeque::new(),
            seed: (fastrand::u64(..), fastrand::u64(..)),
            dedup_window,
            timeout,
            max: max.max(1),
            forgotten: 0,
        }
    }

    /// The fingerprint of an alert's key; allocates nothing.
    pub(crate) fn fingerprint(&self, alert: &Alert) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        if alert.dedup_key.is_empty() {
            for (part, separator) in [(&alert.agent_id, "/"), (&alert.slo_name, "/"), (&alert.source, "")] {
                hasher.write(part.as_bytes());
                hasher.write(separator.as_bytes());
            }
        } else {
            hasher.write(alert.dedup_key.as_bytes());
        }
        Fingerprint(hasher.finish128().as_u128())
    }

    /// The fingerprint of a key as text.
    pub(crate) fn fingerprint_of(&self, key: &str) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(key.as_bytes());
        Fingerprint(hasher.finish128().as_u128())
    }

    /// Takes an alert in: a repetition within the dedup window is none, a worse severity always counts, `resolved` closes.
    pub(crate) fn admit(&mut self, key: Fingerprint, alert: &Alert, now: Timestamp) -> Admission {
        if alert.severity == Severity::Resolved {
            return self.open.remove(&key).map_or(Admission::NotOpen, Admission::Close);
        }
        if let Some(incident) = self.open.get_mut(&key) {
            let is_worse = alert.severity > incident.severity;
            if !is_worse && now < incident.last_sent.saturating_add(self.dedup_window) {
                return Admission::Duplicate;
            }
            if is_worse {
                incident.detail.acknowledged = false;
            }
            (incident.severity, incident.last_sent) = (alert.severity, now);
            return Admission::Fire;
        }
        self.expire(now);
        if self.open.len() >= self.max {
            self.forget_oldest();
        }
        self.open.insert(key, Incident { last_sent: now, severity: alert.severity, detail: Box::default() });
        self.expiries.push_back((now.saturating_add(self.timeout), key));
        Admission::Fire
    }

    /// Takes up an incident of an earlier run.
    pub(crate) fn restore(&mut self, key: Fingerprint, alert: &Alert, sent: Timestamp, detail: Detail) {
        self.open.insert(key, Incident { last_sent: sent, severity: alert.severity, detail: Box::new(detail) });
        self.expiries.push_back((sent.saturating_add(self.timeout), key));
    }

    pub(crate) fn get(&mut self, key: Fingerprint) -> Option<&mut Incident> {
        self.open.get_mut(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many were forgotten while they were open.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.expiries.clear();
    }

    /// Forgets what has been open for longer than the timeout without being sent again.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while self.expiries.front().is_some_and(|(due, _)| *due <= now) {
            self.check_oldest(|last_sent, timeout| last_sent.saturating_add(timeout) <= now);
        }
        if self.open.is_empty() && self.open.capacity() > 1_024 {
            self.open.shrink_to_fit();
            self.expiries.shrink_to_fit();
        }
    }

    fn forget_oldest(&mut self) {
        let before = self.open.len();
        while self.open.len() == before && !self.expiries.is_empty() {
            self.check_oldest(|_, _| true);
        }
    }

    /// Takes the foremost expiry off: the incident may be closed since, or sent again, or is now forgotten.
    fn check_oldest(&mut self, is_due: impl Fn(Timestamp, Duration) -> bool) {
        let Some((due, key)) = self.expiries.pop_front() else { return };
        let Some(incident) = self.open.get(&key) else { return };
        let expiry = incident.last_sent.saturating_add(self.timeout);
        if expiry > due {
            self.expiries.push_back((expiry, key));
        } else if is_due(incident.last_sent, self.timeout) {
            self.open.remove(&key);
            self.forgotten += 1;
        }
    }
}

impl Incident {
    /// When it was sent last.
    pub(crate) fn sent(&self) -> Timestamp {
        self.last_sent
    }

    /// It is sent again by ourselves, which counts for the dedup window.
    pub(crate) fn sent_again(&mut self, now: Timestamp) {
        self.last_sent = now;
    }
}

/// A fingerprint is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn incidents(max: usize) -> Incidents {
        Incidents::new(WINDOW, Duration::from_secs(3_600), max)
    }

    fn alert(key: &str, severity: Severity) -> Alert {
        Alert { dedup_key: key.into(), severity, ..Alert::new("t", "m") }
    }

    fn admit(incidents: &mut Incidents, key: &str, severity: Severity, seconds: i64) -> &'static str {
        let alert = alert(key, severity);
        match incidents.admit(incidents.fingerprint(&alert), &alert, Timestamp::from_secs(seconds)) {
            Admission::Duplicate => "duplicate",
            Admission::NotOpen => "not open",
            Admission::Fire => "fire",
            Admission::Close(_) => "close",
        }
    }

    #[test]
    fn a_key_is_sent_once_a_window_unless_it_gets_worse() {
        use Severity::{Critical, Info, Resolved, Warning};
        let mut incidents = incidents(10);
        for (severity, seconds, expected) in [
            (Resolved, 0, "not open"),
            (Warning, 0, "fire"),
            (Warning, 299, "duplicate"),
            (Info, 299, "duplicate"),
            (Critical, 299, "fire"),
            (Warning, 300, "duplicate"),
            (Critical, 598, "duplicate"),
            (Warning, 599, "fire"),
            (Resolved, 599, "close"),
            (Resolved, 599, "not open"),
            (Warning, 599, "fire"),
        ] {
            assert_eq!(admit(&mut incidents, "k", severity, seconds), expected, "{severity} at {seconds}");
        }
    }

    #[test]
    fn an_empty_key_is_agent_objective_and_source() {
        let incidents = incidents(10);
        let plain = Alert { agent_id: "a".into(), slo_name: "s".into(), ..Alert::new("t", "m") };
        let keyed = Alert { dedup_key: plain.key().into_owned(), ..plain.clone() };
        assert_eq!(incidents.fingerprint(&plain), incidents.fingerprint(&keyed));
        assert_eq!(incidents.fingerprint(&plain), incidents.fingerprint_of("a/s/agent-sre"));
        assert_ne!(incidents.fingerprint(&plain), incidents.fingerprint(&Alert::new("t", "m")));
    }

    #[test]
    fn old_incidents_are_forgotten_and_their_number_is_bounded() {
        let mut incidents = incidents(3);
        for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(admit(&mut incidents, key, Severity::Warning, second as i64), "fire");
        }
        // `a` is sent again, so `b` is the oldest when there are too many.
        assert_eq!(admit(&mut incidents, "a", Severity::Critical, 10), "fire");
        assert_eq!(admit(&mut incidents, "d", Severity::Warning, 20), "fire");
        assert_eq!((incidents.len(), incidents.forgotten()), (3, 1));
        assert_eq!(admit(&mut incidents, "b", Severity::Resolved, 20), "not open");
        incidents.expire(Timestamp::from_secs(3_605));
        assert_eq!((incidents.len(), incidents.forgotten()), (2, 2), "`c` has expired");
        incidents.expire(Timestamp::from_secs(9_999));
        assert_eq!((incidents.len(), incidents.forgotten(), incidents.expiries.len()), (0, 4, 0));
    }
}
