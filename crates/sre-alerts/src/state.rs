use std::collections::BTreeMap;
use std::sync::Arc;

use sre_core::{
    Accepted, Alert, AlertId, AlertRecord, AlertsSnapshot, ChannelError, DeliveryRecord, DeliveryState, NewAlert,
    Severity, StoreError, Timestamp,
};

use crate::fingerprint::{Fingerprint, Keys};
use crate::follow_up::FollowUps;
use crate::incident::{Admission, Detail, Incidents};
use crate::lane::Lane;
use crate::message::Message;
use crate::mute::Mutes;
use crate::{AlertOptions, Decision, DeliveryResult, Sent, Verdict};

/// Everything that a manager knows, and every decision it takes; no input or output, and time is handed in.
pub(crate) struct State {
    pub(crate) lanes: Vec<Lane>,
    next_lane: u32,
    pub(crate) keys: Keys,
    pub(crate) incidents: Incidents,
    pub(crate) mutes: Mutes,
    /// What fires and is muted, by key.
    pub(crate) muted: BTreeMap<Fingerprint, Muted>,
    pub(crate) follow_ups: FollowUps,
    pub(crate) counts: AlertsSnapshot,
    /// The store's last failure, while it lasts.
    pub(crate) store_failure: Option<StoreError>,
    pub(crate) options: Arc<AlertOptions>,
}

/// An alert that is to be sent, before the store knows it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    key: Fingerprint,
    pub(crate) alert: Arc<Alert>,
    pub(crate) at: Timestamp,
    lanes: Vec<u32>,
    muted_until: Option<Timestamp>,
    refused: Vec<DeliveryResult>,
}

#[derive(Debug)]
pub(crate) struct Muted {
    until: Timestamp,
    message: Message,
    lanes: Vec<u32>,
}

impl State {
    pub(crate) fn new(options: Arc<AlertOptions>, keys: Keys) -> Self {
        Self {
            lanes: Vec::new(),
            next_lane: 0,
            keys,
            incidents: Incidents::new(options.dedup_window, options.incident_timeout, options.max_incidents),
            mutes: Mutes::new(options.maintenance.clone(), options.silences.clone()),
            muted: BTreeMap::new(),
            follow_ups: FollowUps::new(),
            counts: AlertsSnapshot::default(),
            store_failure: None,
            options,
        }
    }

    pub(crate) fn add_lane(&mut self, make: impl FnOnce(u32) -> Lane) {
        self.lanes.push(make(self.next_lane));
        self.next_lane += 1;
    }

    fn lane(&mut self, number: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.number == number)
    }

    pub(crate) fn numbered(&self, name: &str) -> Option<u32> {
        self.lanes.iter().find(|lane| &*lane.name == name).map(|lane| lane.number)
    }

    /// Whether the alert only repeats what was sent a moment ago; counts it then.
    pub(crate) fn is_repetition(&mut self, key: Fingerprint, severity: Severity, now: Timestamp) -> bool {
        let is_repetition = self.incidents.is_repetition(key, severity, now);
        self.counts.deduplicated += u64::from(is_repetition);
        is_repetition
    }

    /// Takes an alert in, [completed](complete) beforehand, and says what is to become of it; `Err` where that is nothing.
    pub(crate) fn plan(&mut self, key: Fingerprint, mut alert: Alert, now: Timestamp) -> Result<Planned, Sent> {
        let closed = match self.incidents.admit(key, alert.severity, now) {
            Admission::Duplicate => {
                self.counts.deduplicated += 1;
                return Err(Sent::nothing(Verdict::Duplicate));
            }
            Admission::NotOpen => {
                self.counts.not_open += 1;
                return Err(Sent::nothing(Verdict::NotOpen));
            }
            Admission::Close(incident) => {
                if let Some(muted) = self.muted.remove(&key) {
                    self.skip_muted(&muted, "resolved while it was muted", now);
                }
                if incident.detail.lanes.is_empty() {
                    self.counts.not_open += 1;
                    return Err(Sent::nothing(Verdict::NotOpen));
                }
                Some(incident.detail)
            }
            Admission::Fire => None,
        };
        if let Some((_, trigger)) = closed.as_ref().and_then(|detail| detail.last.as_ref()) {
            identify(&mut alert, trigger);
        }
        let alert = Arc::new(alert);
        let mut planned = Planned { key, alert, at: now, lanes: Vec::new(), muted_until: None, refused: Vec::new() };
        if let Some(detail) = closed {
            planned.lanes = detail.lanes;
            return Ok(planned);
        }
        planned.muted_until = self.mutes.until(&planned.alert, now);
        for lane in &self.lanes {
            match lane.refusal(&planned.alert) {
                None => planned.lanes.push(lane.number),
                Some(decision) => planned.refused.push(DeliveryResult { channel: lane.name.clone(), decision }),
            }
        }
        Ok(planned)
    }

    /// What the store is to know before anything is tried.
    pub(crate) fn row(&self, planned: &Planned) -> NewAlert {
        let lanes = self.lanes.iter().filter(|lane| planned.lanes.contains(&lane.number));
        let deliveries = lanes.map(|lane| (lane.name.clone(), DeliveryState::Pending)).collect();
        NewAlert { alert: planned.alert.clone(), deliveries, at: planned.at }
    }

    /// Sends what was planned on its way.
    pub(crate) fn launch(&mut self, planned: Planned, row: Option<AlertId>, now: Timestamp) -> Sent {
        let Planned { key, alert, at, lanes, muted_until, refused } = planned;
        let mut sent = Sent { id: row, verdict: Verdict::Accepted, channels: refused };
        if lanes.is_empty() {
            self.counts.unrouted += 1;
            return sent;
        }
        let message = Message::new(key, alert, row, at);
        if let Some(until) = muted_until {
            self.counts.silenced += 1;
            for number in &lanes {
                if let Some(lane) = self.lane(*number) {
                    sent.channels
                        .push(DeliveryResult { channel: lane.name.clone(), decision: Decision::Muted { until } });
                }
            }
            if let Some(before) = self.muted.insert(key, Muted { until, message, lanes }) {
                self.skip_muted(&before, "followed by a worse one while it was muted", now);
            }
            return sent;
        }
        self.counts.sent += 1;
        self.deliver(&message, &lanes, now, &mut sent.channels);
        sent
    }

    /// Hands a message to lanes, and remembers for its incident that they know.
    pub(crate) fn deliver(
        &mut self,
        message: &Message,
        lanes: &[u32],
        now: Timestamp,
        results: &mut Vec<DeliveryResult>,
    ) {
        for lane in self.lanes.iter_mut().filter(|lane| lanes.contains(&lane.number)) {
            let decision = lane.accept(message.clone(), now, self.keys);
            results.push(DeliveryResult { channel: lane.name.clone(), decision });
        }
        let Some(incident) = self.incidents.get(message.key) else { return };
        for number in lanes {
            if !incident.detail.lanes.contains(number) {
                incident.detail.lanes.push(*number);
            }
        }
        incident.detail.last = Some((message.rows.first().copied(), message.alert.clone()));
        self.plan_follow_ups(message.key, lanes, now);
    }

    /// Does everything that is due; with `at_once`, also what only waits for company.
    pub(crate) fn tick(&mut self, now: Timestamp, at_once: bool) {
        self.incidents.expire(now);
        self.unmute(now);
        self.follow_up_all(now);
        for lane in &mut self.lanes {
            lane.release(now, at_once, self.keys);
        }
    }

    /// Sends what still fires once nothing mutes it any more.
    fn unmute(&mut self, now: Timestamp) {
        let due: Vec<Fingerprint> =
            self.muted.iter().filter(|(_, muted)| muted.until <= now).map(|(key, _)| *key).collect();
        for key in due {
            let Some(mut muted) = self.muted.remove(&key) else { continue };
            if let Some(until) = self.mutes.until(&muted.message.alert, now) {
                muted.until = until;
                self.muted.insert(key, muted);
            } else if self.incidents.get(key).is_some() {
                self.counts.sent += 1;
                self.deliver(&muted.message, &muted.lanes, now, &mut Vec::new());
            } else {
                self.skip_muted(&muted, "its incident was forgotten while it was muted", now);
            }
        }
    }

    /// A silence was taken away: look at once which alerts are still muted.
    pub(crate) fn recheck_mutes(&mut self, now: Timestamp) {
        self.muted.values_mut().for_each(|muted| muted.until = now);
        self.unmute(now);
    }

    fn skip_muted(&mut self, muted: &Muted, why: &str, now: Timestamp) {
        for lane in self.lanes.iter_mut().filter(|lane| muted.lanes.contains(&lane.number)) {
            lane.out.skip(&muted.message, why, now);
        }
    }

    /// When [`State::tick`] or a lane next has something to do.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let muted = self.muted.values().map(|muted| muted.until).min();
        let follow_up = self.follow_ups.peek().map(|next| next.0.0);
        let lanes = self.lanes.iter().filter_map(Lane::next_due).min();
        [muted, follow_up, lanes].into_iter().flatten().min()
    }

    /// The next messages to try, at most `limit`, with the numbers of their lanes.
    pub(crate) fn take(&mut self, now: Timestamp, limit: usize, into: &mut Vec<(u32, Message)>) {
        for lane in &mut self.lanes {
            while into.len() < limit {
                let Some(message) = lane.take(now) else { break };
                into.push((lane.number, message));
            }
        }
    }

    /// Takes in how an attempt went; hands back a message that is done with.
    pub(crate) fn settle(
        &mut self,
        lane: u32,
        message: Message,
        result: Result<Accepted, ChannelError>,
        now: Timestamp,
    ) -> Option<Message> {
        let retry = self.options.retry;
        match self.lane(lane) {
            Some(lane) => lane.settle(message, result, now, &retry),
            None => Some(message),
        }
    }

    /// What the lanes want written down.
    pub(crate) fn take_records(&mut self, into: &mut Vec<DeliveryRecord>) {
        for lane in &mut self.lanes {
            into.append(&mut lane.out.records);
        }
    }

    /// Takes up an incident that an earlier run left open, as far as the channels are there that it was sent to.
    pub(crate) fn restore(&mut self, record: AlertRecord, now: Timestamp) {
        let alert = record.alert;
        let key = self.keys.of(&alert);
        // What is unfinished is on its way, perhaps from another process, unless it is muted.
        let is_muted = self.mutes.until(&alert, now).is_some();
        let told = record.deliveries.iter().filter(|delivery| match delivery.state {
            DeliveryState::Delivered | DeliveryState::Failed => true,
            DeliveryState::Pending | DeliveryState::Released => !is_muted,
            DeliveryState::Skipped => false,
        });
        let lanes: Vec<u32> = told.filter_map(|delivery| self.numbered(&delivery.channel)).collect();
        if let Some(known) = self.incidents.get(key) {
            known.detail.lanes.extend(&lanes);
            known.detail.lanes.sort_unstable();
            return known.detail.lanes.dedup();
        }
        let detail = Detail {
            opened_at: record.at,
            lanes: lanes.clone(),
            last: Some((Some(record.id), Arc::new(alert.clone()))),
            acknowledged: record.acknowledged.is_some(),
        };
        self.incidents.restore(key, &alert, record.at, detail);
        self.plan_follow_ups(key, &lanes, record.at);
    }

    /// Puts unfinished deliveries of earlier runs, or what had no room, into a lane.
    pub(crate) fn refill(&mut self, name: &str, adopted: Vec<AlertRecord>, is_all: bool, now: Timestamp) {
        let Some(number) = self.numbered(name) else { return };
        let mut messages = Vec::new();
        for AlertRecord { id, at, alert, .. } in adopted {
            let key = self.keys.of(&alert);
            let until = self.mutes.until(&alert, now).filter(|_| alert.severity != Severity::Resolved);
            let message = Message::new(key, Arc::new(alert), Some(id), at);
            // What was muted when the process died still is.
            if let Some(until) = until {
                let muted = self.muted.entry(key).or_insert_with(|| Muted { until, message, lanes: Vec::new() });
                muted.lanes.push(number);
            } else {
                messages.push(message);
            }
        }
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.number == number) {
            lane.refill(messages, is_all, now, self.keys);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    pub(crate) fn snapshot(&self) -> AlertsSnapshot {
        AlertsSnapshot {
            open: self.incidents.len() as u64,
            forgotten: self.incidents.forgotten(),
            channels: self.lanes.iter().map(Lane::snapshot).collect(),
            ..self.counts.clone()
        }
    }

    /// Forgets what was sent, and every count.
    pub(crate) fn clear(&mut self) {
        self.incidents.clear();
        self.follow_ups.clear();
        self.counts = AlertsSnapshot::default();
        self.lanes.iter_mut().for_each(Lane::clear_stats);
    }
}

/// The alert with its key and times filled in.
pub(crate) fn complete(alert: &Alert, now: Timestamp) -> Alert {
    let mut alert = alert.clone();
    if alert.dedup_key.is_empty() {
        alert.dedup_key = alert.key().into_owned();
    }
    if alert.starts_at == Timestamp::default() {
        alert.starts_at = now;
    }
    if alert.severity == Severity::Resolved {
        alert.ends_at = alert.ends_at.or(Some(now));
    }
    alert
}

/// Gives a resolution what tells its trigger apart: who sorts alerts by these must find the same ones.
fn identify(alert: &mut Alert, trigger: &Alert) {
    alert.starts_at = trigger.starts_at;
    let texts = [
        (&mut alert.agent_id, &trigger.agent_id),
        (&mut alert.slo_name, &trigger.slo_name),
        (&mut alert.source, &trigger.source),
    ];
    for (own, its) in texts {
        own.clone_from(its);
    }
    if alert.labels != trigger.labels {
        alert.labels.clone_from(&trigger.labels);
    }
}
