use std::sync::Arc;

use sre_core::{
    Alert, AlertId, AlertRecord, AlertsSnapshot, ChannelError, DeliveryReceipt, DeliveryRecord, DeliveryState,
    NewAlert, Severity, Timestamp,
};

use crate::channel_pipeline::{ChannelId, ChannelPipeline};
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::incident::{Admission, Incidents};
use crate::message::Message;
use crate::planned_alert::{PlannedAlert, copy_identity};
use crate::renotifications::{Renotification, RenotificationKind, Renotifications};
use crate::silence::Silencer;
use crate::silenced_alerts::{SilencedAlert, SilencedAlerts};
use crate::{AlertOptions, ChannelDecision, Decision, SendReport, Verdict};

/// The manager's state and its decisions. Time is passed in, and delivering and storing are left to the caller.
pub(crate) struct State {
    pub(crate) pipelines: Vec<ChannelPipeline>,
    next_channel: u32,
    fingerprinter: Fingerprinter,
    incidents: Incidents,
    pub(crate) silencer: Silencer,
    silenced: SilencedAlerts,
    renotifications: Renotifications,
    pub(crate) counts: AlertsSnapshot,
    /// Whether the last access to the store failed.
    pub(crate) is_store_failing: bool,
    options: Arc<AlertOptions>,
}

impl State {
    pub(crate) fn new(options: Arc<AlertOptions>, fingerprinter: Fingerprinter) -> Self {
        Self {
            pipelines: Vec::new(),
            next_channel: 0,
            fingerprinter,
            incidents: Incidents::new(options.dedup_window, options.incident_timeout, options.max_incidents),
            silencer: Silencer::new(options.maintenance.clone(), options.silences.clone()),
            silenced: SilencedAlerts::default(),
            renotifications: Renotifications::default(),
            counts: AlertsSnapshot::default(),
            is_store_failing: false,
            options,
        }
    }

    pub(crate) fn add_pipeline(&mut self, new: impl FnOnce(ChannelId) -> ChannelPipeline) {
        self.pipelines.push(new(ChannelId(self.next_channel)));
        self.next_channel += 1;
    }

    fn pipeline(&mut self, id: ChannelId) -> Option<&mut ChannelPipeline> {
        self.pipelines.iter_mut().find(|pipeline| pipeline.id == id)
    }

    fn channel_id(&self, name: &str) -> Option<ChannelId> {
        self.pipelines.iter().find(|pipeline| &*pipeline.name == name).map(|pipeline| pipeline.id)
    }

    /// Returns the last alert of an open incident.
    pub(crate) fn incident(&self, key: Fingerprint) -> Option<&Alert> {
        self.incidents.last_alert(key)
    }

    /// Returns whether the alert is a duplicate, and counts it if so.
    pub(crate) fn is_duplicate(&mut self, key: Fingerprint, severity: Severity, now: Timestamp) -> bool {
        let is_duplicate = self.incidents.is_duplicate(key, severity, now);
        self.counts.deduplicated += u64::from(is_duplicate);
        is_duplicate
    }

    /// Accepts an alert, its [defaults](crate::planned_alert::with_defaults) filled in, and routes it; `Err` if it is not
    /// accepted.
    pub(crate) fn plan(
        &mut self,
        key: Fingerprint,
        mut alert: Alert,
        now: Timestamp,
    ) -> Result<PlannedAlert, SendReport> {
        if self.pipelines.is_empty() {
            self.counts.unrouted += 1;
            return Err(SendReport::new(Verdict::NoChannel));
        }
        let admission = if alert.one_off { Admission::Fire } else { self.incidents.admit(key, alert.severity, now) };
        let closed = match admission {
            Admission::Duplicate => {
                self.counts.deduplicated += 1;
                return Err(SendReport::new(Verdict::Duplicate));
            }
            Admission::NotOpen => {
                self.counts.not_open += 1;
                return Err(SendReport::new(Verdict::NotOpen));
            }
            Admission::Close(incident) => {
                if let Some(silenced) = self.silenced.remove(key) {
                    self.skip(&silenced, "resolved while silenced", now);
                }
                if incident.detail.channels.is_empty() {
                    self.counts.not_open += 1;
                    return Err(SendReport::new(Verdict::NotOpen));
                }
                Some(incident.detail)
            }
            Admission::Fire => None,
        };
        if let Some((_, trigger)) = closed.as_ref().and_then(|detail| detail.last.as_ref()) {
            copy_identity(&mut alert, trigger);
        }
        let alert = Arc::new(alert);
        let mut planned =
            PlannedAlert { key, alert, at: now, channels: Vec::new(), silenced_until: None, skipped: Vec::new() };
        if let Some(detail) = closed {
            planned.channels = detail.channels;
            return Ok(planned);
        }
        planned.silenced_until = self.silencer.silenced_until(&planned.alert, now);
        for pipeline in &self.pipelines {
            match pipeline.skip_reason(&planned.alert) {
                None => planned.channels.push(pipeline.id),
                Some(decision) => planned.skipped.push(ChannelDecision { channel: pipeline.name.clone(), decision }),
            }
        }
        self.note_planned(&planned, now);
        Ok(planned)
    }

    /// Notes what later alerts of the key depend on, as they may be planned before this one is dispatched.
    fn note_planned(&mut self, planned: &PlannedAlert, now: Timestamp) {
        let PlannedAlert { key, alert, at, channels, silenced_until, .. } = planned;
        if channels.is_empty() || alert.one_off {
            return;
        }
        if let Some(until) = *silenced_until {
            let message = Message::new(*key, alert.clone(), None, *at);
            let silenced = SilencedAlert { until, message, channels: channels.clone(), is_dispatched: false };
            if let Some(replaced) = self.silenced.insert(silenced) {
                self.skip(&replaced, "followed by a more severe alert while silenced", now);
            }
        } else if let Some(incident) = self.incidents.get(*key) {
            incident.add_channels(channels);
            incident.detail.last = Some((None, alert.clone()));
        }
    }

    /// Returns what the store keeps of a planned alert.
    pub(crate) fn stored_form(&self, planned: &PlannedAlert) -> NewAlert {
        let receivers = self.pipelines.iter().filter(|pipeline| planned.channels.contains(&pipeline.id));
        let mut new = NewAlert::new(planned.alert.clone(), planned.at);
        new.deliveries = receivers.map(|pipeline| (pipeline.name.clone(), DeliveryState::Pending)).collect();
        new
    }

    /// Hands a planned alert to its channels, or holds it while it is silenced.
    pub(crate) fn dispatch(&mut self, planned: PlannedAlert, id: Option<AlertId>, now: Timestamp) -> SendReport {
        let PlannedAlert { key, alert, at, channels, silenced_until, skipped } = planned;
        let mut report = SendReport { id, verdict: Verdict::Accepted, channels: skipped };
        if channels.is_empty() {
            self.counts.unrouted += 1;
            return report;
        }
        let message = Message::new(key, alert, id, at);
        if let Some(until) = silenced_until {
            self.counts.silenced += 1;
            let receivers = self.pipelines.iter().filter(|pipeline| channels.contains(&pipeline.id));
            report.channels.extend(receivers.map(|pipeline| ChannelDecision {
                channel: pipeline.name.clone(),
                decision: Decision::Silenced { until },
            }));
            // A single occurrence does not wait for the end of the silence.
            let marked = match message.alert.one_off {
                true => Err("silenced"),
                false => self.silenced.mark_dispatched(&message),
            };
            if let Err(reason) = marked {
                self.skip(&SilencedAlert { until, message, channels, is_dispatched: true }, reason, now);
            }
            return report;
        }
        if id.is_some()
            && let Some(incident) = self.incidents.get(key)
            && let Some((last_id, last)) = &mut incident.detail.last
            && Arc::ptr_eq(last, &message.alert)
        {
            *last_id = id;
        }
        self.counts.sent += 1;
        self.deliver(&message, &channels, now, &mut report.channels);
        report
    }

    /// Hands a message to channels and schedules what follows.
    fn deliver(
        &mut self,
        message: &Message,
        channels: &[ChannelId],
        now: Timestamp,
        decisions: &mut Vec<ChannelDecision>,
    ) {
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| channels.contains(&pipeline.id)) {
            let decision = pipeline.accept(message.clone(), now, self.fingerprinter);
            decisions.push(ChannelDecision { channel: pipeline.name.clone(), decision });
        }
        self.note_lost();
        if !message.alert.one_off {
            self.schedule_renotifications(message.key, channels, now);
        }
    }

    /// Notes for each incident the channels that failed to deliver its last alert.
    fn note_lost(&mut self) {
        for pipeline in &mut self.pipelines {
            for key in pipeline.lost.drain(..) {
                if let Some(incident) = self.incidents.get(key)
                    && !incident.detail.undelivered.contains(&pipeline.id)
                {
                    incident.detail.undelivered.push(pipeline.id);
                }
            }
        }
    }

    /// Sends the last alert of an ongoing incident once more to the channels that failed to deliver it. Returns false if there
    /// is none.
    pub(crate) fn redeliver(&mut self, key: Fingerprint, now: Timestamp) -> bool {
        if self.silenced.contains(key) {
            return false;
        }
        let Some(incident) = self.incidents.get(key).filter(|incident| !incident.detail.is_acknowledged) else {
            return false;
        };
        let channels = std::mem::take(&mut incident.detail.undelivered);
        let Some((id, alert)) = incident.detail.last.clone().filter(|_| !channels.is_empty()) else { return false };
        let message = Message::new(key, alert, id, now);
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| channels.contains(&pipeline.id)) {
            pipeline.log.record(&message, DeliveryState::Pending, None, None, now);
            pipeline.accept(message.clone(), now, self.fingerprinter);
        }
        self.note_lost();
        true
    }

    /// Does what is due by `now`; with `flush`, also releases what groups and rate limits hold.
    pub(crate) fn tick(&mut self, now: Timestamp, flush: bool) {
        self.incidents.expire(now);
        let due = self.silenced.take_due(now);
        self.release_silenced(due, now);
        while let Some(renotification) = self.renotifications.pop_due(now) {
            self.renotify(renotification, now);
        }
        for pipeline in &mut self.pipelines {
            pipeline.release(now, flush, self.fingerprinter);
        }
        self.note_lost();
    }

    /// Sends the silenced alerts that a silence ended early no longer covers.
    pub(crate) fn recheck_silences(&mut self, now: Timestamp) {
        self.silenced.expire_all(now);
        let due = self.silenced.take_due(now);
        self.release_silenced(due, now);
    }

    fn release_silenced(&mut self, alerts: Vec<SilencedAlert>, now: Timestamp) {
        for mut silenced in alerts {
            if let Some(until) = self.silencer.silenced_until(&silenced.message.alert, now) {
                silenced.until = until;
                self.silenced.insert(silenced);
            } else if let Some(incident) = self.incidents.get(silenced.message.key) {
                let message = &silenced.message;
                incident.add_channels(&silenced.channels);
                incident.detail.last = Some((message.alert_ids.first().copied(), message.alert.clone()));
                self.counts.sent += 1;
                self.deliver(&silenced.message, &silenced.channels, now, &mut Vec::new());
            } else {
                self.skip(&silenced, "the incident expired while silenced", now);
            }
        }
    }

    fn skip(&mut self, silenced: &SilencedAlert, reason: &'static str, now: Timestamp) {
        if !silenced.is_dispatched {
            return self.silenced.supersede(silenced.message.alert.clone(), reason);
        }
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| silenced.channels.contains(&pipeline.id)) {
            pipeline.log.skip(&silenced.message, reason, now);
        }
    }

    fn schedule_renotifications(&mut self, key: Fingerprint, channels: &[ChannelId], now: Timestamp) {
        let Self { renotifications, options, pipelines, .. } = self;
        let is_notified =
            |name: &str| pipelines.iter().any(|pipeline| *pipeline.name == *name && channels.contains(&pipeline.id));
        renotifications.schedule(key, options, is_notified, now);
    }

    fn renotify(&mut self, renotification: Renotification, now: Timestamp) {
        let Renotification { due, key, kind, .. } = renotification;
        let Some(incident) = self.incidents.get(key) else { return };
        let Some((id, alert)) = incident.detail.last.clone() else { return };
        // The acknowledgement may have come through another process.
        let store = self.options.store.as_ref().filter(|_| !incident.detail.is_acknowledged);
        incident.detail.is_acknowledged |=
            store.is_some_and(|store| matches!(store.acknowledgement(&alert.dedup_key), Ok(Some(_))));
        if incident.detail.is_acknowledged || self.silenced.contains(key) {
            return;
        }
        let notified = incident.detail.channels.clone();
        let message = Message::new(key, alert, id, due);
        match kind {
            RenotificationKind::Repeat => {
                // A later notification has scheduled a repeat of its own.
                let interval = self.options.repeat_interval.unwrap_or_default();
                if due < incident.last_sent().saturating_add(interval) {
                    return;
                }
                incident.mark_sent(now);
                self.counts.repeated += 1;
                self.deliver(&message, &notified, now, &mut Vec::new());
            }
            RenotificationKind::Escalate { policy, channel } => {
                let Some(policy) = self.options.escalations.get(policy) else { return };
                // Scheduled for an earlier incident of the same key.
                if due < incident.detail.opened_at.saturating_add(policy.after) {
                    return;
                }
                let Some(name) = policy.channels.get(channel) else { return };
                let next = self.pipelines.iter_mut().find(|pipeline| *pipeline.name == **name && pipeline.is_enabled());
                let Some(pipeline) = next.filter(|pipeline| !notified.contains(&pipeline.id)) else { return };
                let id = pipeline.id;
                incident.add_channels(&[id]);
                pipeline.log.record(&message, DeliveryState::Pending, None, None, now);
                self.counts.escalated += 1;
                self.deliver(&message, &[id], now, &mut Vec::new());
            }
        }
    }

    /// Stops repeats and escalations of an open incident and notifies its channels; false if no such incident is open.
    pub(crate) fn acknowledge(&mut self, dedup_key: &str, by: &str, now: Timestamp) -> bool {
        let key = self.fingerprinter.of_key(dedup_key);
        let Some(incident) = self.incidents.get(key) else { return false };
        incident.detail.is_acknowledged = true;
        // Without a last alert no channel has been notified.
        let Some((_, alert)) = incident.detail.last.clone() else { return true };
        let message = Message { acknowledged_by: Some(by.into()), ..Message::new(key, alert, None, now) };
        let channels = &incident.detail.channels;
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| channels.contains(&pipeline.id)) {
            pipeline.accept(message.clone(), now, self.fingerprinter);
        }
        true
    }

    /// Returns when [`State::tick`] or a channel next has something to do.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let pipelines = self.pipelines.iter().filter_map(ChannelPipeline::next_due).min();
        [self.silenced.next_due(), self.renotifications.next_due(), pipelines].into_iter().flatten().min()
    }

    /// Takes the next messages to attempt, until `into` holds `limit`.
    pub(crate) fn take(&mut self, now: Timestamp, limit: usize, into: &mut Vec<(ChannelId, Message)>) {
        for pipeline in &mut self.pipelines {
            while into.len() < limit {
                let Some(message) = pipeline.take(now) else { break };
                into.push((pipeline.id, message));
            }
        }
    }

    /// Records the result of an attempt; returns the message if it is finished.
    pub(crate) fn finish_attempt(
        &mut self,
        channel: ChannelId,
        message: Message,
        result: Result<DeliveryReceipt, ChannelError>,
        now: Timestamp,
    ) -> Option<Message> {
        let retry = self.options.retry;
        let finished = match self.pipeline(channel) {
            Some(pipeline) => pipeline.finish_attempt(message, result, now, &retry),
            None => Some(message),
        };
        self.note_lost();
        finished
    }

    /// Moves the results to be stored into `into`.
    pub(crate) fn take_records(&mut self, into: &mut Vec<DeliveryRecord>) {
        for pipeline in &mut self.pipelines {
            into.append(&mut pipeline.log.records);
        }
    }

    /// Restores an incident that an earlier run left open, for those of its channels that are registered.
    pub(crate) fn restore(&mut self, record: AlertRecord, now: Timestamp) {
        let key = self.fingerprinter.of(&record.alert);
        // An unfinished delivery is under way, perhaps in another process, unless it is silenced.
        let is_silenced = self.silencer.silenced_until(&record.alert, now).is_some();
        let was_sent = |state| match state {
            DeliveryState::Delivered | DeliveryState::Failed => true,
            DeliveryState::Skipped => false,
            _ => !is_silenced,
        };
        let deliveries = record.deliveries.iter().filter(|delivery| was_sent(delivery.state));
        let channels: Vec<ChannelId> = deliveries.filter_map(|delivery| self.channel_id(&delivery.channel)).collect();
        if let Some(incident) = self.incidents.get(key) {
            return incident.add_channels(&channels);
        }
        let at = record.at;
        self.incidents.restore(key, record, channels.clone());
        self.schedule_renotifications(key, &channels, at);
    }

    /// Accepts deliveries adopted from the store; `is_last` if the store has no more for this channel.
    pub(crate) fn accept_adopted(&mut self, channel: &str, adopted: Vec<AlertRecord>, is_last: bool, now: Timestamp) {
        let Some(id) = self.channel_id(channel) else { return };
        let mut messages = Vec::new();
        for record in adopted {
            let silenced_until = self.silencer.silenced_until(&record.alert, now);
            let until = silenced_until.filter(|_| record.alert.severity != Severity::Resolved);
            let key = self.fingerprinter.of(&record.alert);
            let message = Message::new(key, Arc::new(record.alert), Some(record.id), record.at);
            match until {
                Some(until) => self.silenced.add_channel(message, id, until),
                None => messages.push(message),
            }
        }
        let fingerprinter = self.fingerprinter;
        if let Some(pipeline) = self.pipeline(id) {
            pipeline.accept_adopted(messages, is_last, now, fingerprinter);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pipelines.iter().all(ChannelPipeline::is_idle)
    }

    pub(crate) fn snapshot(&self) -> AlertsSnapshot {
        let mut snapshot = self.counts.clone();
        snapshot.open = self.incidents.len() as u64;
        snapshot.evicted = self.incidents.evicted();
        snapshot.channels = self.pipelines.iter().map(ChannelPipeline::snapshot).collect();
        snapshot
    }

    /// Forgets all incidents and resets the counters.
    pub(crate) fn clear(&mut self) {
        self.incidents.clear();
        self.renotifications.clear();
        self.counts = AlertsSnapshot::default();
        self.pipelines.iter_mut().for_each(ChannelPipeline::clear_stats);
    }
}
