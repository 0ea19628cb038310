use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Alert, AlertId, AlertRecord, Severity, Timestamp};

use crate::channel_pipeline::ChannelId;
use crate::fingerprint::{ByFingerprint, Fingerprint};

/// The open incidents and the last alert of each.
///
/// The map's entries are small: they hold what deduplication needs, and the rest behind a pointer. A duplicate so costs one
/// hash of its key and one memory access, however many incidents are open.
#[derive(Debug)]
pub(crate) struct Incidents {
    open: ByFingerprint<Incident>,
    /// When to check which incident for expiry, earliest first: the timeout is the same for all.
    expiries: VecDeque<(Timestamp, Fingerprint)>,
    dedup_window: Duration,
    timeout: Duration,
    max: usize,
    evicted: u64,
}

/// An open incident.
#[derive(Debug)]
pub(crate) struct Incident {
    last_sent: LastSent,
    pub(crate) detail: Box<Detail>,
}

/// When an incident's last alert was sent, and its severity: packed into 64 bits, at 4 ns resolution, so that an entry of the
/// map is half a cache line.
#[derive(Clone, Copy, Debug)]
struct LastSent(i64);

impl LastSent {
    fn new(at: Timestamp, severity: Severity) -> Self {
        Self(at.as_nanos() & !3 | severity as i64)
    }

    fn at(self) -> Timestamp {
        Timestamp::from_nanos(self.0 & !3)
    }

    fn severity(self) -> Severity {
        match self.0 & 3 {
            0 => Severity::Resolved,
            1 => Severity::Info,
            2 => Severity::Warning,
            _ => Severity::Critical,
        }
    }
}

/// What deduplication does not need.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    pub(crate) opened_at: Timestamp,
    /// The channels that were notified.
    pub(crate) channels: Vec<ChannelId>,
    /// Those of them to which the last alert could not be delivered.
    pub(crate) undelivered: Vec<ChannelId>,
    /// The last alert sent, for repeats and to complete its resolution.
    pub(crate) last: Option<(Option<AlertId>, Arc<Alert>)>,
    pub(crate) is_acknowledged: bool,
}

/// The effect of an alert on its incident.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A repetition within the dedup window.
    Duplicate,
    /// A resolution without an open incident.
    NotOpen,
    /// The incident opens, continues or escalates in severity.
    Fire,
    /// The incident is resolved and removed.
    Close(Incident),
}

impl Incidents {
    pub(crate) fn new(dedup_window: Duration, timeout: Duration, max: usize) -> Self {
        Self {
            open: ByFingerprint::default(),
            expiries: VecDeque::new(),
            dedup_window,
            timeout,
            max: max.max(1),
            evicted: 0,
        }
    }

    /// Returns whether an alert of this key and at least this severity was sent within the dedup window.
    pub(crate) fn is_duplicate(&self, key: Fingerprint, severity: Severity, now: Timestamp) -> bool {
        severity != Severity::Resolved
            && self.open.get(&key).is_some_and(|incident| {
                severity <= incident.last_sent.severity()
                    && now < incident.last_sent.at().saturating_add(self.dedup_window)
            })
    }

    /// Updates the incident of an alert and returns the effect.
    pub(crate) fn admit(&mut self, key: Fingerprint, severity: Severity, now: Timestamp) -> Admission {
        if severity == Severity::Resolved {
            return self.open.remove(&key).map_or(Admission::NotOpen, Admission::Close);
        }
        if self.is_duplicate(key, severity, now) {
            return Admission::Duplicate;
        }
        if let Some(incident) = self.open.get_mut(&key) {
            if severity > incident.last_sent.severity() {
                incident.detail.is_acknowledged = false;
            }
            incident.last_sent = LastSent::new(now, severity);
            return Admission::Fire;
        }
        self.expire(now);
        if self.open.len() >= self.max {
            self.forget_oldest();
        }
        let detail = Detail { opened_at: now, ..Detail::default() };
        self.open.insert(key, Incident { last_sent: LastSent::new(now, severity), detail: Box::new(detail) });
        self.expiries.push_back((now.saturating_add(self.timeout), key));
        Admission::Fire
    }

    /// Restores an incident of an earlier run, of which these channels were notified.
    pub(crate) fn restore(&mut self, key: Fingerprint, record: AlertRecord, channels: Vec<ChannelId>) {
        let AlertRecord { id, at, alert, acknowledged, .. } = record;
        let last_sent = LastSent::new(at, alert.severity);
        let last = Some((Some(id), Arc::new(alert)));
        let is_acknowledged = acknowledged.is_some();
        let detail = Detail { opened_at: at, channels, last, is_acknowledged, ..Detail::default() };
        self.open.insert(key, Incident { last_sent, detail: Box::new(detail) });
        self.expiries.push_back((at.saturating_add(self.timeout), key));
    }

    /// Returns the last alert sent of an open incident.
    pub(crate) fn last_alert(&self, key: Fingerprint) -> Option<&Alert> {
        self.open.get(&key)?.detail.last.as_ref().map(|(_, alert)| &**alert)
    }

    pub(crate) fn get(&mut self, key: Fingerprint) -> Option<&mut Incident> {
        self.open.get_mut(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns how many open incidents were evicted, by age or number.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.expiries.clear();
    }

    /// Evicts incidents whose last alert is older than the timeout.
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

    /// Takes the first expiry. Its incident may have been closed or sent again since; otherwise it is evicted if due.
    fn check_oldest(&mut self, is_due: impl Fn(Timestamp, Duration) -> bool) {
        let Some((due, key)) = self.expiries.pop_front() else { return };
        let Some(incident) = self.open.get(&key) else { return };
        let expiry = incident.last_sent.at().saturating_add(self.timeout);
        if expiry > due {
            self.expiries.push_back((expiry, key));
        } else if is_due(incident.last_sent.at(), self.timeout) {
            self.open.remove(&key);
            self.evicted += 1;
        }
    }
}

impl Incident {
    pub(crate) fn last_sent(&self) -> Timestamp {
        self.last_sent.at()
    }

    /// Notes that the manager itself has sent the last alert again, which extends the dedup window.
    pub(crate) fn mark_sent(&mut self, now: Timestamp) {
        self.last_sent = LastSent::new(now, self.last_sent.severity());
    }

    pub(crate) fn add_channels(&mut self, channels: &[ChannelId]) {
        for channel in channels {
            if !self.detail.channels.contains(channel) {
                self.detail.channels.push(*channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;

    const WINDOW: Duration = Duration::from_secs(300);

    fn incidents(max: usize) -> Incidents {
        Incidents::new(WINDOW, Duration::from_secs(3_600), max)
    }

    fn admit(incidents: &mut Incidents, key: &str, severity: Severity, seconds: i64) -> &'static str {
        let key = Fingerprinter::unseeded().of_key(key);
        match incidents.admit(key, severity, Timestamp::from_secs(seconds)) {
            Admission::Duplicate => "duplicate",
            Admission::NotOpen => "not open",
            Admission::Fire => "fire",
            Admission::Close(_) => "close",
        }
    }

    #[test]
    fn a_key_is_sent_once_a_window_unless_its_severity_rises() {
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
    fn old_incidents_expire_and_their_number_is_bounded() {
        let mut incidents = incidents(3);
        for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(admit(&mut incidents, key, Severity::Warning, second as i64), "fire");
        }
        // `a` is sent again, so `b` is the oldest when there are too many.
        assert_eq!(admit(&mut incidents, "a", Severity::Critical, 10), "fire");
        assert_eq!(admit(&mut incidents, "d", Severity::Warning, 20), "fire");
        assert_eq!((incidents.len(), incidents.evicted()), (3, 1));
        assert_eq!(admit(&mut incidents, "b", Severity::Resolved, 20), "not open");
        incidents.expire(Timestamp::from_secs(3_605));
        assert_eq!((incidents.len(), incidents.evicted()), (2, 2), "`c` has expired");
        incidents.expire(Timestamp::from_secs(9_999));
        assert_eq!((incidents.len(), incidents.evicted(), incidents.expiries.len()), (0, 4, 0));
    }
}
