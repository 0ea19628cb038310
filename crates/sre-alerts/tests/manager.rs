//! The decisions of the manager and the order of its deliveries, on a manual clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sre_alerts::{
    AlertManager, AlertOptions, ChannelConfig, Decision, EscalationPolicy, MaintenanceWindow, ManagerError, RateLimit,
    Schedule, Silence, Verdict,
};
use sre_core::{
    Alert, AlertChannel, AlertsSnapshot, ChannelError, DeliveryReceipt, HttpClient, ManualClock, NoHttp, Notification,
    RetryPolicy, Severity, Timestamp,
};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Records its alerts, and fails with the errors it is given.
#[derive(Clone, Default)]
struct RecordingChannel {
    name: String,
    delivered: Arc<Mutex<Vec<String>>>,
    alerts: Arc<Mutex<Vec<Alert>>>,
    failures: Arc<Mutex<VecDeque<ChannelError>>>,
}

impl RecordingChannel {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn fails_with(&self, errors: impl IntoIterator<Item = ChannelError>) {
        self.failures.lock().unwrap().extend(errors);
    }

    /// Takes what was delivered since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.delivered.lock().unwrap())
    }

    fn last(&self) -> Alert {
        self.alerts.lock().unwrap().last().unwrap().clone()
    }
}

#[async_trait]
impl AlertChannel for RecordingChannel {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        _http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        if let Some(error) = self.failures.lock().unwrap().pop_front() {
            return Err(error);
        }
        self.delivered
            .lock()
            .unwrap()
            .push(format!("{} {}", notification.alert.dedup_key, notification.alert.severity));
        self.alerts.lock().unwrap().push(notification.alert.clone());
        Ok(DeliveryReceipt::default())
    }

    async fn acknowledge(
        &self,
        notification: Notification<'_>,
        by: &str,
        _http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        self.delivered.lock().unwrap().push(format!("{} acknowledged by {by}", notification.alert.dedup_key));
        Ok(())
    }
}

/// Posts to a server.
struct Posting;

#[async_trait]
impl AlertChannel for Posting {
    fn name(&self) -> &str {
        "posting"
    }

    fn needs_http(&self) -> bool {
        true
    }

    async fn deliver(&self, of: Notification<'_>, http: &dyn HttpClient) -> Result<DeliveryReceipt, ChannelError> {
        let request = http::Request::post("http://127.0.0.1:9/").body(of.alert.title.clone().into()).unwrap();
        Ok(DeliveryReceipt::with_status(http.send(request).await?.status().as_u16()))
    }
}

struct Setup {
    manager: AlertManager,
    clock: Arc<ManualClock>,
    channel: RecordingChannel,
}

impl Setup {
    fn new(options: AlertOptions, config: ChannelConfig) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let manager = AlertManager::without_thread(AlertOptions { clock: clock.clone(), ..options });
        let channel = RecordingChannel::new("memory");
        manager.add_channel(channel.clone(), config).unwrap();
        Self { manager, clock, channel }
    }

    fn plain() -> Self {
        Self::new(AlertOptions::default(), ChannelConfig::default())
    }

    fn send(&self, key: &str, severity: Severity) -> Verdict {
        self.manager.send(&alert(key, severity)).verdict
    }

    /// Advances the clock, delivers what is due and returns it.
    async fn advance(&self, seconds: u64) -> Vec<String> {
        self.clock.advance(Duration::from_secs(seconds));
        self.manager.deliver_due().await;
        self.channel.take()
    }

    fn stats(&self) -> AlertsSnapshot {
        self.manager.stats()
    }
}

fn alert(key: &str, severity: Severity) -> Alert {
    let agent = key.split('/').next().unwrap_or_default();
    Alert { severity, dedup_key: key.into(), agent_id: agent.into(), ..Alert::new(format!("{key} burns"), "quickly") }
}

fn rejected(status: u16, retry_after: Option<u64>) -> ChannelError {
    ChannelError::Rejected { status, message: "no".into(), retry_after: retry_after.map(Duration::from_secs) }
}

#[test]
fn a_channel_that_needs_http_is_refused_without_a_client() {
    let manager = AlertManager::new(AlertOptions::default()).unwrap();
    let error = manager.add_channel(Posting, ChannelConfig::default()).unwrap_err();
    assert!(matches!(&error, ManagerError::NoHttpClient(channel) if channel == "posting"), "{error}");
    let expected = "channel `posting` needs an HTTP client; set `AlertOptions::http`";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(manager.list_channels().is_empty());
    // The channel was not added, so nothing waits for it and the manager ends at once.
    manager.send(&alert("a", Severity::Critical));
    assert_eq!(manager.shutdown(Duration::ZERO), 0);
}

/// A channel of an own type that does not declare that it needs HTTP fails at once, without retries.
#[tokio::test]
async fn a_request_without_a_client_is_not_retried() {
    let error = Posting.deliver(Notification::new(&alert("a", Severity::Critical), 1, START), &NoHttp).await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "no HTTP client configured; set one to reach 127.0.0.1");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_incident_is_delivered_once_and_resolved_once() {
    let setup = Setup::plain();
    assert_eq!(setup.send("a", Severity::Critical), Verdict::Accepted);
    for _ in 0..10 {
        assert_eq!(setup.send("a", Severity::Critical), Verdict::Duplicate);
    }
    assert_eq!(setup.advance(60).await, ["a critical"]);
    assert_eq!(setup.send("a", Severity::Resolved), Verdict::Accepted);
    assert_eq!(setup.send("a", Severity::Resolved), Verdict::NotOpen);
    assert_eq!(setup.advance(1).await, ["a resolved"]);
    let resolved = setup.channel.last();
    assert_eq!((resolved.starts_at, resolved.ends_at), (START, Some(START.saturating_add(Duration::from_secs(60)))));
    let stats = setup.stats();
    assert_eq!((stats.sent, stats.deduplicated, stats.not_open, stats.open), (2, 10, 1, 0));
    assert_eq!((stats.channels[0].delivered, stats.channels[0].queued), (2, 0));
}

#[tokio::test]
async fn a_channel_gets_the_alerts_it_matches_and_the_resolutions_of_those_it_got() {
    let setup = Setup::plain();
    let loud = RecordingChannel::new("loud");
    let config = ChannelConfig {
        min_severity: Severity::Critical,
        matchers: vec!["agent=~\"support.*\"".parse().unwrap()],
        ..ChannelConfig::default()
    };
    setup.manager.add_channel(loud.clone(), config).unwrap();
    let off = ChannelConfig { enabled: false, ..ChannelConfig::default() };
    setup.manager.add_channel(RecordingChannel::new("off"), off).unwrap();
    let decisions = |key: &str, severity| -> BTreeMap<String, Decision> {
        let sent = setup.manager.send(&alert(key, severity));
        sent.channels.into_iter().map(|result| (result.channel.to_string(), result.decision)).collect()
    };
    let of = |memory, loud, off| {
        BTreeMap::from([("memory".to_owned(), memory), ("loud".to_owned(), loud), ("off".to_owned(), off)])
    };
    use Decision::{BelowSeverity, Disabled, NotMatched, Queued};
    assert_eq!(decisions("support/1", Severity::Info), of(BelowSeverity, BelowSeverity, Disabled));
    assert_eq!(decisions("support/1", Severity::Warning), of(Queued, BelowSeverity, Disabled));
    assert_eq!(
        decisions("support/1", Severity::Critical),
        of(Queued, Queued, Disabled),
        "a higher severity passes at once"
    );
    assert_eq!(decisions("planner/1", Severity::Critical), of(Queued, NotMatched, Disabled));
    setup.send("support/1", Severity::Resolved);
    setup.send("planner/1", Severity::Resolved);
    setup.manager.deliver_due().await;
    assert_eq!(loud.take(), ["support/1 critical", "support/1 resolved"]);
    assert_eq!(setup.channel.take().len(), 5);
    assert_eq!(setup.manager.list_channels(), ["memory", "loud", "off"]);
    assert!(setup.manager.remove_channel("loud") && !setup.manager.remove_channel("loud"));
    assert!(setup.manager.add_channel(RecordingChannel::new("off"), ChannelConfig::default()).is_err());
}

#[tokio::test]
async fn a_resolution_never_overtakes_its_trigger() {
    let setup = Setup::plain();
    setup.channel.fails_with([rejected(503, None), rejected(429, Some(30))]);
    setup.send("a", Severity::Critical);
    assert!(setup.advance(0).await.is_empty());
    setup.send("a", Severity::Resolved);
    setup.send("b", Severity::Critical);
    // `b` gets the second failure and waits for its `retry_after`.
    assert!(setup.advance(0).await.is_empty());
    assert_eq!(setup.advance(1).await, ["a critical", "a resolved"]);
    assert!(setup.advance(28).await.is_empty());
    assert_eq!(setup.advance(1).await, ["b critical"]);
    assert_eq!((setup.stats().channels[0].retries, setup.stats().channels[0].delivered), (2, 3));
}

#[tokio::test]
async fn permanent_errors_are_not_retried_and_others_are_given_up_in_the_end() {
    let retry = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    let setup = Setup::new(AlertOptions { retry, ..AlertOptions::default() }, ChannelConfig::default());
    setup.channel.fails_with([rejected(400, None)]);
    setup.send("a", Severity::Critical);
    assert!(setup.advance(0).await.is_empty());
    assert_eq!((setup.stats().channels[0].failed, setup.stats().channels[0].retries), (1, 0));
    assert_eq!(setup.stats().channels[0].last_error, "answered 400: no");
    setup.channel.fails_with((0..3).map(|_| rejected(500, None)));
    setup.send("b", Severity::Critical);
    for _ in 0..3 {
        assert!(setup.advance(300).await.is_empty());
    }
    assert_eq!((setup.stats().channels[0].failed, setup.stats().channels[0].retries), (2, 2));
    // The failed trigger does not stand in the way of what follows.
    setup.send("b", Severity::Resolved);
    assert_eq!(setup.advance(0).await, ["b resolved"]);
}

#[tokio::test]
async fn a_silence_holds_alerts_and_those_still_firing_are_sent_when_it_ends() {
    let setup = Setup::plain();
    let silence = Silence {
        matchers: vec!["agent=support".parse().unwrap()],
        starts_at: START,
        ends_at: START.saturating_add(Duration::from_secs(600)),
        author: "ann".into(),
        comment: "deploying".into(),
    };
    let until = silence.ends_at;
    let id = setup.manager.silence(silence.clone()).unwrap();
    let sent = setup.manager.send(&alert("support/goes on", Severity::Critical));
    assert_eq!(sent.channels[0].decision, Decision::Silenced { until });
    setup.send("support/ends", Severity::Critical);
    setup.send("planner/1", Severity::Critical);
    assert_eq!(setup.advance(599).await, ["planner/1 critical"]);
    assert_eq!(setup.send("support/ends", Severity::Resolved), Verdict::NotOpen, "nothing was sent");
    assert_eq!(setup.advance(1).await, ["support/goes on critical"]);
    assert_eq!(setup.stats().silenced, 2);
    assert!(setup.manager.silences().is_empty());
    // Ending a silence early releases its alerts at once.
    assert!(!setup.manager.end_silence(sre_alerts::SilenceId(77)));
    let id = {
        assert!(setup.manager.end_silence(id) || setup.manager.silences().is_empty());
        let ends_at = until.saturating_add(Duration::from_secs(600));
        setup.manager.silence(Silence { starts_at: until, ends_at, ..silence }).unwrap()
    };
    setup.send("support/later", Severity::Warning);
    setup.send("support/later", Severity::Critical);
    assert!(setup.advance(1).await.is_empty());
    assert!(setup.manager.end_silence(id));
    assert_eq!(setup.advance(0).await, ["support/later critical"], "only the more severe one");
}

#[tokio::test]
async fn a_maintenance_window_holds_alerts_until_it_closes() {
    let (from, until) = (START, START.saturating_add(Duration::from_secs(60)));
    let window = MaintenanceWindow::new("move", vec![], Schedule::Once { from, until });
    let setup =
        Setup::new(AlertOptions { maintenance: vec![window], ..AlertOptions::default() }, ChannelConfig::default());
    setup.send("a", Severity::Critical);
    assert!(setup.advance(59).await.is_empty());
    assert_eq!(setup.advance(1).await, ["a critical"]);
}

#[tokio::test]
async fn alerts_that_share_labels_are_grouped_into_one_message() {
    let options = AlertOptions { group_by: vec!["agent".into()], ..AlertOptions::default() };
    let setup = Setup::new(options, ChannelConfig::default());
    for key in ["support/1", "support/2", "planner/1"] {
        assert_eq!(setup.manager.send(&alert(key, Severity::Warning)).channels[0].decision, Decision::Grouped);
    }
    assert!(setup.advance(29).await.is_empty());
    assert_eq!(setup.advance(1).await, ["group/agent=planner warning", "group/agent=support warning"]);
    let both = setup.channel.last();
    assert_eq!((&*both.title, &*both.agent_id), ("2 alerts: agent=support", "support"));
    assert!(both.message.contains("support/1 burns") && both.message.contains("support/2 burns"), "{}", both.message);
    // A higher severity does not wait; the resolution of one of several alerts does.
    setup.send("support/3", Severity::Critical);
    assert_eq!(setup.advance(0).await, ["group/agent=support critical"]);
    setup.send("support/1", Severity::Resolved);
    assert!(setup.advance(29).await.is_empty());
    assert_eq!(setup.advance(1).await, ["group/agent=support critical"]);
    setup.send("support/2", Severity::Resolved);
    setup.send("support/3", Severity::Resolved);
    assert_eq!(setup.advance(0).await, ["group/agent=support resolved"], "no alert of the group fires");
    // An alert that is resolved within the wait is not sent.
    setup.send("writer/1", Severity::Warning);
    setup.send("writer/1", Severity::Resolved);
    assert!(setup.advance(60).await.is_empty());
}

#[tokio::test]
async fn alerts_over_the_rate_limit_are_delivered_as_one_summary() {
    let limit = RateLimit { messages: 2.try_into().unwrap(), per: Duration::from_secs(60) };
    let config = ChannelConfig { rate_limit: Some(limit), ..ChannelConfig::default() };
    let setup = Setup::new(AlertOptions::default(), config);
    for number in 0..52 {
        setup.send(&format!("agent/{number}"), Severity::Warning);
    }
    assert_eq!(setup.advance(0).await, ["agent/0 warning", "agent/1 warning"]);
    assert_eq!(setup.stats().channels[0].delayed, 50);
    // A delayed alert that is resolved is dropped; its resolution is delivered.
    setup.send("agent/51", Severity::Resolved);
    assert_eq!(setup.advance(29).await, ["agent/51 resolved"]);
    assert_eq!(setup.advance(1).await.len(), 1);
    let summary = setup.channel.last();
    assert_eq!(summary.title, "49 alerts: delayed by the channel's rate limit");
    assert!(
        summary.message.contains("agent/2 burns") && summary.message.ends_with("… and 29 more"),
        "{}",
        summary.message
    );
    assert_eq!((setup.stats().channels[0].delayed, setup.stats().channels[0].summarised), (0, 49));
    // The summary is resolved with the last of its alerts.
    (2..51).for_each(|number| {
        setup.send(&format!("agent/{number}"), Severity::Resolved);
    });
    let delivered = setup.advance(0).await;
    assert_eq!(delivered.len(), 50);
    assert_eq!(setup.channel.last().dedup_key, summary.dedup_key);
    assert_eq!(setup.channel.last().severity, Severity::Resolved);
}

#[tokio::test]
async fn an_incident_is_repeated_until_it_is_acknowledged() {
    let options = AlertOptions { repeat_interval: Some(Duration::from_secs(3_600)), ..AlertOptions::default() };
    let setup = Setup::new(options, ChannelConfig::default());
    setup.send("a", Severity::Warning);
    assert_eq!(setup.advance(1_000).await, ["a warning"]);
    setup.send("a", Severity::Critical);
    assert_eq!(setup.advance(3_599).await, ["a critical"]);
    assert_eq!(setup.advance(1).await, ["a critical"], "an hour after it was last sent");
    assert_eq!(setup.advance(3_600).await, ["a critical"]);
    assert!(setup.manager.acknowledge("a", "ann").unwrap());
    assert!(!setup.manager.acknowledge("b", "ann").unwrap());
    assert_eq!(setup.advance(36_000).await, ["a acknowledged by ann"]);
    assert_eq!(setup.stats().repeated, 2);
}

#[tokio::test]
async fn an_unacknowledged_incident_escalates_to_the_next_channel() {
    let after = Duration::from_secs(900);
    let channels = ["memory", "second", "third"].map(str::to_owned).to_vec();
    let options = AlertOptions { escalations: vec![EscalationPolicy::new(channels, after)], ..AlertOptions::default() };
    let setup = Setup::new(options, ChannelConfig::default());
    let (second, third) = (RecordingChannel::new("second"), RecordingChannel::new("third"));
    setup.manager.add_channel(second.clone(), ChannelConfig::default()).unwrap();
    setup.manager.add_channel(third.clone(), ChannelConfig::default()).unwrap();
    let sent = setup.manager.send(&alert("a", Severity::Critical));
    assert_eq!(sent.receivers().collect::<Vec<_>>(), ["memory"]);
    assert_eq!(sent.channels.iter().filter(|result| result.decision == Decision::EscalationOnly).count(), 2);
    setup.send("b", Severity::Critical);
    assert_eq!(setup.advance(899).await.len(), 2);
    assert!(setup.manager.acknowledge("b", "ann").unwrap());
    assert_eq!(setup.advance(1).await, ["b acknowledged by ann"]);
    assert_eq!(second.take(), ["a critical"]);
    assert!(third.take().is_empty());
    setup.advance(900).await;
    assert_eq!(third.take(), ["a critical"]);
    setup.send("a", Severity::Resolved);
    setup.advance(0).await;
    assert_eq!((second.take(), third.take()), (vec!["a resolved".to_owned()], vec!["a resolved".to_owned()]));
    assert_eq!(setup.stats().escalated, 2);
    // The escalation of a resolved incident does not apply to the next one of its key.
    setup.send("c", Severity::Critical);
    setup.advance(600).await;
    setup.send("c", Severity::Resolved);
    setup.send("c", Severity::Critical);
    setup.advance(899).await;
    assert!(second.take().is_empty());
    setup.advance(1).await;
    assert_eq!(second.take(), ["c critical"]);
}

#[tokio::test]
async fn a_full_queue_is_reported_and_counted() {
    let options = AlertOptions { queue_limit: 2, ..AlertOptions::default() };
    let setup = Setup::new(options, ChannelConfig::default());
    let decisions: Vec<Decision> =
        ["a", "b", "c"].map(|key| setup.manager.send(&alert(key, Severity::Warning)).channels[0].decision).to_vec();
    assert_eq!(decisions, [Decision::Queued, Decision::Queued, Decision::QueueFull]);
    assert_eq!(setup.stats().channels[0].dropped, 1);
    assert_eq!(setup.advance(0).await.len(), 2);
}

#[test]
fn a_shutdown_returns_the_number_of_undelivered_messages() {
    let manager = AlertManager::new(AlertOptions { queue_limit: 2, ..AlertOptions::default() }).unwrap();
    let channel = RecordingChannel::new("down");
    channel.fails_with((0..9).map(|_| rejected(503, None)));
    manager.add_channel(channel.clone(), ChannelConfig::default()).unwrap();
    for key in ["a", "b", "c"] {
        manager.send(&alert(key, Severity::Critical));
    }
    assert_eq!(manager.stats().channels[0].dropped, 1);
    assert_eq!(manager.shutdown(Duration::from_millis(50)), 2);
    assert!(channel.take().is_empty());
}

#[test]
fn a_panicking_channel_does_not_affect_others() {
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = std::sync::mpsc::channel();
    let manager = AlertManager::new(AlertOptions::default()).unwrap();
    let broken = sre_alerts::CallbackChannel::new("broken", |_| panic!("a mistake"));
    let sound = sre_alerts::CallbackChannel::new("sound", move |alert| sender.send(alert.title.clone()).unwrap());
    manager
        .add_channels(vec![(Arc::new(broken), ChannelConfig::default()), (Arc::new(sound), ChannelConfig::default())])
        .unwrap();
    manager.send(&alert("a", Severity::Critical));
    assert_eq!(receiver.recv().unwrap(), "a burns");
    assert!(manager.flush(Duration::from_secs(30)));
    let stats = manager.stats();
    assert_eq!((stats.channels[0].failed, &*stats.channels[0].last_error), (1, "panicked: a mistake"));
    assert_eq!(stats.channels[1].delivered, 1);
    manager.clear_history();
    assert_eq!(manager.send(&alert("a", Severity::Critical)).verdict, Verdict::Accepted, "not a duplicate any more");
    assert_eq!(manager.shutdown(Duration::from_secs(30)), 0);
    assert_eq!(receiver.recv().unwrap(), "a burns");
}

/// The delivery thread delivers messages that waited behind another of their key, without being woken for them.
#[test]
fn the_delivery_thread_drains_every_key() {
    let count = Arc::new(Mutex::new(0));
    let counter = count.clone();
    let manager = AlertManager::new(AlertOptions::default()).unwrap();
    let channel = sre_alerts::CallbackChannel::new("count", move |_| *counter.lock().unwrap() += 1);
    manager.add_channel(channel, ChannelConfig::default()).unwrap();
    for round in 0..200 {
        for key in ["a", "b", "c"] {
            for _ in 0..5 {
                manager.send(&alert(key, Severity::Critical));
                manager.send(&alert(key, Severity::Resolved));
            }
        }
        assert!(manager.flush(Duration::from_secs(20)), "round {round}: {:?}", manager.stats());
        assert_eq!(*count.lock().unwrap(), (round + 1) * 30);
    }
}

#[tokio::test]
async fn a_custom_mapping_replaces_the_texts_of_alerts() {
    use sre_core::{Signal, SignalHandler};
    let mapping = |signal: &Signal| match &*signal.source {
        "chatter" => None,
        source => {
            let texts = Alert::new("Hoppla", "Schau mal nach.");
            Some(Alert { severity: signal.severity, dedup_key: source.to_owned(), ..texts })
        }
    };
    let setup =
        Setup::new(AlertOptions { mapping: Arc::new(mapping), ..AlertOptions::default() }, ChannelConfig::default());
    let signals = ["chatter", "cascade"].map(|source| Signal::firing(source, "key", Severity::Critical, START));
    setup.manager.handle(&signals, &mut |_| {});
    assert_eq!(setup.advance(0).await, ["cascade critical"]);
    assert_eq!(setup.channel.last().title, "Hoppla");
}

#[tokio::test]
async fn a_signal_that_is_asserted_again_is_no_alert() {
    use sre_core::{Signal, SignalHandler};
    let setup = Setup::new(AlertOptions::default(), ChannelConfig::default());
    let begun = Signal::firing("slo", "slo/a/b", Severity::Critical, START);
    let over = Signal::resolved("slo", "slo/a/b", START.saturating_add(Duration::from_secs(9)));
    setup.manager.handle(std::slice::from_ref(&over), &mut |_| {});
    setup.manager.handle(&[begun.clone(), begun.clone()], &mut |_| {});
    assert_eq!(setup.advance(0).await, ["slo/a/b critical"]);
    // Longer than the dedup window.
    assert_eq!(setup.advance(3_600).await, [""; 0]);
    setup.manager.handle(std::slice::from_ref(&begun), &mut |_| {});
    assert_eq!(setup.advance(0).await, [""; 0]);
    setup.manager.handle(&[over.clone(), over], &mut |_| {});
    assert_eq!(setup.advance(0).await, ["slo/a/b resolved"]);
    let again = Signal::firing("slo", "slo/a/b", Severity::Critical, START.saturating_add(Duration::from_secs(99)));
    setup.manager.handle(&[again.clone(), Signal::resolved("slo", "slo/a/b", again.time)], &mut |_| {});
    assert_eq!(setup.advance(0).await, ["slo/a/b critical", "slo/a/b resolved"]);
    assert_eq!(setup.manager.stats().not_open, 0);
}

#[tokio::test]
async fn an_alert_before_any_channel_can_be_sent_again() {
    let manager = AlertManager::without_thread(AlertOptions::default());
    let alert = alert("disk", Severity::Critical);
    assert_eq!(manager.send(&alert).verdict, Verdict::NoChannel);
    let channel = RecordingChannel::new("ops");
    manager.add_channel(channel.clone(), ChannelConfig::default()).unwrap();
    assert_eq!(manager.send(&alert).verdict, Verdict::Accepted);
    manager.deliver_due().await;
    assert_eq!(channel.delivered.lock().unwrap().len(), 1);
}
