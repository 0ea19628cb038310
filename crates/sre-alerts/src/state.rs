use std::collections::BTreeMap;
use std::sync::Arc;

use sre_core::{
    Alert, AlertId, AlertRecord, AlertsSnapshot, ChannelError, DeliveryReceipt, DeliveryRecord, DeliveryState,
    NewAlert, Severity, StoreError, Timestamp,
};

use crate::channel_pipeline::ChannelPipeline;
use crate::escalation::Renotifications;
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::incident::{Admission, Detail, Incidents};
use crate::message::Message;
use crate::silence::Silencer;
use crate::{AlertOptions, ChannelDecision, Decision, SendReport, Verdict};

/// Everything that a manager knows, and every decision it takes; no input or output, and time is handed in.
pub(crate) struct State {
    pub(crate) pipelines: Vec<ChannelPipeline>,
    next_pipeline: u32,
    pub(crate) fingerprinter: Fingerprinter,
    pub(crate) incidents: Incidents,
    pub(crate) silencer: Silencer,
    /// What fires and is silenced, by key.
    pub(crate) silenced: BTreeMap<Fingerprint, SilencedAlert>,
    pub(crate) renotifications: Renotifications,
    pub(crate) counts: AlertsSnapshot,
    /// The store's last failure, while it lasts.
    pub(crate) store_failure: Option<StoreError>,
    pub(crate) options: Arc<AlertOptions>,
}

/// An alert that is to be sent, before the store knows it.
#[derive(Clone, Debug)]
pub(crate) struct PlannedAlert {
    key: Fingerprint,
    pub(crate) alert: Arc<Alert>,
    pub(crate) at: Timestamp,
    pipelines: Vec<u32>,
    silenced_until: Option<Timestamp>,
    skipped: Vec<ChannelDecision>,
}

#[derive(Debug)]
pub(crate) struct SilencedAlert {
    until: Timestamp,
    message: Message,
    pipelines: Vec<u32>,
}

impl State {
    pub(crate) fn new(options: Arc<AlertOptions>, fingerprinter: Fingerprinter) -> Self {
        Self {
            pipelines: Vec::new(),
            next_pipeline: 0,
            fingerprinter,
            incidents: Incidents::new(options.dedup_window, options.incident_timeout, options.max_incidents),
            silencer: Silencer::new(options.maintenance.clone(), options.silences.clone()),
            silenced: BTreeMap::new(),
            renotifications: Renotifications::new(),
            counts: AlertsSnapshot::default(),
            store_failure: None,
            options,
        }
    }

    pub(crate) fn add_pipeline(&mut self, make: impl FnOnce(u32) -> ChannelPipeline) {
        self.pipelines.push(make(self.next_pipeline));
        self.next_pipeline += 1;
    }

    fn pipeline(&mut self, number: u32) -> Option<&mut ChannelPipeline> {
        self.pipelines.iter_mut().find(|pipeline| pipeline.number == number)
    }

    pub(crate) fn numbered(&self, name: &str) -> Option<u32> {
        self.pipelines.iter().find(|pipeline| &*pipeline.name == name).map(|pipeline| pipeline.number)
    }

    /// Whether the alert only repeats what was sent a moment ago; counts it then.
    pub(crate) fn is_duplicate(&mut self, key: Fingerprint, severity: Severity, now: Timestamp) -> bool {
        let is_duplicate = self.incidents.is_duplicate(key, severity, now);
        self.counts.deduplicated += u64::from(is_duplicate);
        is_duplicate
    }

    /// Takes an alert in, [completed](complete) beforehand, and says what is to become of it; `Err` where that is nothing.
    pub(crate) fn plan(
        &mut self,
        key: Fingerprint,
        mut alert: Alert,
        now: Timestamp,
    ) -> Result<PlannedAlert, SendReport> {
        let closed = match self.incidents.admit(key, alert.severity, now) {
            Admission::Duplicate => {
                self.counts.deduplicated += 1;
                return Err(SendReport::nothing(Verdict::Duplicate));
            }
            Admission::NotOpen => {
                self.counts.not_open += 1;
                return Err(SendReport::nothing(Verdict::NotOpen));
            }
            Admission::Close(incident) => {
                if let Some(silenced) = self.silenced.remove(&key) {
                    self.skip_silenced(&silenced, "resolved while it was silenced", now);
                }
                if incident.detail.pipelines.is_empty() {
                    self.counts.not_open += 1;
                    return Err(SendReport::nothing(Verdict::NotOpen));
                }
                Some(incident.detail)
            }
            Admission::Fire => None,
        };
        if let Some((_, trigger)) = closed.as_ref().and_then(|detail| detail.last.as_ref()) {
            identify(&mut alert, trigger);
        }
        let alert = Arc::new(alert);
        let mut planned =
            PlannedAlert { key, alert, at: now, pipelines: Vec::new(), silenced_until: None, skipped: Vec::new() };
        if let Some(detail) = closed {
            planned.pipelines = detail.pipelines;
            return Ok(planned);
        }
        planned.silenced_until = self.silencer.until(&planned.alert, now);
        for pipeline in &self.pipelines {
            match pipeline.skip_reason(&planned.alert) {
                None => planned.pipelines.push(pipeline.number),
                Some(decision) => planned.skipped.push(ChannelDecision { channel: pipeline.name.clone(), decision }),
            }
        }
        Ok(planned)
    }

    /// What the store is to know before anything is tried.
    pub(crate) fn row(&self, planned: &PlannedAlert) -> NewAlert {
        let pipelines = self.pipelines.iter().filter(|pipeline| planned.pipelines.contains(&pipeline.number));
        let deliveries = pipelines.map(|pipeline| (pipeline.name.clone(), DeliveryState::Pending)).collect();
        NewAlert { alert: planned.alert.clone(), deliveries, at: planned.at }
    }

    /// Sends what was planned on its way.
    pub(crate) fn dispatch(&mut self, planned: PlannedAlert, row: Option<AlertId>, now: Timestamp) -> SendReport {
        let PlannedAlert { key, alert, at, pipelines, silenced_until, skipped } = planned;
        let mut sent = SendReport { id: row, verdict: Verdict::Accepted, channels: skipped };
        if pipelines.is_empty() {
            self.counts.unrouted += 1;
            return sent;
        }
        let message = Message::new(key, alert, row, at);
        if let Some(until) = silenced_until {
            self.counts.silenced += 1;
            for number in &pipelines {
                if let Some(pipeline) = self.pipeline(*number) {
                    sent.channels.push(ChannelDecision {
                        channel: pipeline.name.clone(),
                        decision: Decision::Silenced { until },
                    });
                }
            }
            if let Some(before) = self.silenced.insert(key, SilencedAlert { until, message, pipelines }) {
                self.skip_silenced(&before, "followed by a worse one while it was silenced", now);
            }
            return sent;
        }
        self.counts.sent += 1;
        self.deliver(&message, &pipelines, now, &mut sent.channels);
        sent
    }

    /// Hands a message to pipelines, and remembers for its incident that they know.
    pub(crate) fn deliver(
        &mut self,
        message: &Message,
        pipelines: &[u32],
        now: Timestamp,
        results: &mut Vec<ChannelDecision>,
    ) {
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| pipelines.contains(&pipeline.number)) {
            let decision = pipeline.accept(message.clone(), now, self.fingerprinter);
            results.push(ChannelDecision { channel: pipeline.name.clone(), decision });
        }
        let Some(incident) = self.incidents.get(message.key) else { return };
        for number in pipelines {
            if !incident.detail.pipelines.contains(number) {
                incident.detail.pipelines.push(*number);
            }
        }
        incident.detail.last = Some((message.alert_ids.first().copied(), message.alert.clone()));
        self.plan_renotifications(message.key, pipelines, now);
    }

    /// Does everything that is due; with `flush`, also what only waits for company.
    pub(crate) fn tick(&mut self, now: Timestamp, flush: bool) {
        self.incidents.expire(now);
        self.release_silenced(now);
        self.renotify_due(now);
        for pipeline in &mut self.pipelines {
            pipeline.release(now, flush, self.fingerprinter);
        }
    }

    /// Sends what still fires once nothing silencer it any more.
    fn release_silenced(&mut self, now: Timestamp) {
        let due: Vec<Fingerprint> =
            self.silenced.iter().filter(|(_, silenced)| silenced.until <= now).map(|(key, _)| *key).collect();
        for key in due {
            let Some(mut silenced) = self.silenced.remove(&key) else { continue };
            if let Some(until) = self.silencer.until(&silenced.message.alert, now) {
                silenced.until = until;
                self.silenced.insert(key, silenced);
            } else if self.incidents.get(key).is_some() {
                self.counts.sent += 1;
                self.deliver(&silenced.message, &silenced.pipelines, now, &mut Vec::new());
            } else {
                self.skip_silenced(&silenced, "its incident was forgotten while it was silenced", now);
            }
        }
    }

    /// A silence was taken away: look at once which alerts are still silenced.
    pub(crate) fn recheck_silences(&mut self, now: Timestamp) {
        self.silenced.values_mut().for_each(|silenced| silenced.until = now);
        self.release_silenced(now);
    }

    fn skip_silenced(&mut self, silenced: &SilencedAlert, why: &str, now: Timestamp) {
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| silenced.pipelines.contains(&pipeline.number)) {
            pipeline.out.skip(&silenced.message, why, now);
        }
    }

    /// When [`State::tick`] or a pipeline next has something to do.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let silenced = self.silenced.values().map(|silenced| silenced.until).min();
        let renotification = self.renotifications.peek().map(|next| next.0.0);
        let pipelines = self.pipelines.iter().filter_map(ChannelPipeline::next_due).min();
        [silenced, renotification, pipelines].into_iter().flatten().min()
    }

    /// The next messages to try, at most `limit`, with the numbers of their pipelines.
    pub(crate) fn take(&mut self, now: Timestamp, limit: usize, into: &mut Vec<(u32, Message)>) {
        for pipeline in &mut self.pipelines {
            while into.len() < limit {
                let Some(message) = pipeline.take(now) else { break };
                into.push((pipeline.number, message));
            }
        }
    }

    /// Takes in how an attempt went; hands back a message that is done with.
    pub(crate) fn settle(
        &mut self,
        pipeline: u32,
        message: Message,
        result: Result<DeliveryReceipt, ChannelError>,
        now: Timestamp,
    ) -> Option<Message> {
        let retry = self.options.retry;
        match self.pipeline(pipeline) {
            Some(pipeline) => pipeline.settle(message, result, now, &retry),
            None => Some(message),
        }
    }

    /// What the pipelines want written down.
    pub(crate) fn take_records(&mut self, into: &mut Vec<DeliveryRecord>) {
        for pipeline in &mut self.pipelines {
            into.append(&mut pipeline.out.records);
        }
    }

    /// Takes up an incident that an earlier run left open, as far as the channels are there that it was sent to.
    pub(crate) fn restore(&mut self, record: AlertRecord, now: Timestamp) {
        let alert = record.alert;
        let key = self.fingerprinter.of(&alert);
        // What is unfinished is on its way, perhaps from another process, unless it is silenced.
        let is_muted = self.silencer.until(&alert, now).is_some();
        let told = record.deliveries.iter().filter(|delivery| match delivery.state {
            DeliveryState::Delivered | DeliveryState::Failed => true,
            DeliveryState::Pending | DeliveryState::Released => !is_muted,
            DeliveryState::Skipped => false,
        });
        let pipelines: Vec<u32> = told.filter_map(|delivery| self.numbered(&delivery.channel)).collect();
        if let Some(known) = self.incidents.get(key) {
            known.detail.pipelines.extend(&pipelines);
            known.detail.pipelines.sort_unstable();
            return known.detail.pipelines.dedup();
        }
        let detail = Detail {
            opened_at: record.at,
            pipelines: pipelines.clone(),
            last: Some((Some(record.id), Arc::new(alert.clone()))),
            acknowledged: record.acknowledged.is_some(),
        };
        self.incidents.restore(key, &alert, record.at, detail);
        self.plan_renotifications(key, &pipelines, record.at);
    }

    /// Puts unfinished deliveries of earlier runs, or what had no room, into a pipeline.
    pub(crate) fn enqueue_adopted(&mut self, name: &str, adopted: Vec<AlertRecord>, is_all: bool, now: Timestamp) {
        let Some(number) = self.numbered(name) else { return };
        let mut messages = Vec::new();
        for AlertRecord { id, at, alert, .. } in adopted {
            let key = self.fingerprinter.of(&alert);
            let until = self.silencer.until(&alert, now).filter(|_| alert.severity != Severity::Resolved);
            let message = Message::new(key, Arc::new(alert), Some(id), at);
            // What was muted when the process died still is.
            if let Some(until) = until {
                let silenced =
                    self.silenced.entry(key).or_insert_with(|| SilencedAlert { until, message, pipelines: Vec::new() });
                silenced.pipelines.push(number);
            } else {
                messages.push(message);
            }
        }
        if let Some(pipeline) = self.pipelines.iter_mut().find(|pipeline| pipeline.number == number) {
            pipeline.enqueue_adopted(messages, is_all, now, self.fingerprinter);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pipelines.iter().all(ChannelPipeline::is_idle)
    }

    pub(crate) fn snapshot(&self) -> AlertsSnapshot {
        AlertsSnapshot {
            open: self.incidents.len() as u64,
            forgotten: self.incidents.forgotten(),
            channels: self.pipelines.iter().map(ChannelPipeline::snapshot).collect(),
            ..self.counts.clone()
        }
    }

    /// Forgets what was sent, and every count.
    pub(crate) fn clear(&mut self) {
        self.incidents.clear();
        self.renotifications.clear();
        self.counts = AlertsSnapshot::default();
        self.pipelines.iter_mut().for_each(ChannelPipeline::clear_stats);
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
