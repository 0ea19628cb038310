//! What the manager decides and in which order it delivers, on a clock that the tests turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sre_alerts::{
    AlertManager, AlertOptions, ChannelConfig, Decision, EscalationPolicy, MaintenanceWindow, RateLimit, Schedule,
    Silence, Verdict,
};
use sre_core::{
    Alert, AlertChannel, AlertsSnapshot, ChannelError, DeliveryReceipt, HttpClient, ManualClock, Notification,
    RetryPolicy, Severity, Timestamp,
};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Remembers what it was given, and fails when it is told to.
#[derive(Clone, Default)]
struct Memory {
    name: String,
    said: Arc<Mutex<Vec<String>>>,
    alerts: Arc<Mutex<Vec<Alert>>>,
    failures: Arc<Mutex<VecDeque<ChannelError>>>,
}

impl Memory {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn fails_with(&self, errors: impl IntoIterator<Item = ChannelError>) {
        self.failures.lock().unwrap().extend(errors);
    }

    /// What it was given since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }

    fn last(&self) -> Alert {
        self.alerts.lock().unwrap().last().unwrap().clone()
    }
}

#[async_trait]
impl AlertChannel for Memory {
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
        self.said.lock().unwrap().push(format!("{} {}", notification.alert.dedup_key, notification.alert.severity));
        self.alerts.lock().unwrap().push(notification.alert.clone());
        Ok(DeliveryReceipt::default())
    }

    async fn acknowledge(
        &self,
        notification: Notification<'_>,
        by: &str,
        _http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        self.said.lock().unwrap().push(format!("{} acknowledged by {by}", notification.alert.dedup_key));
        Ok(())
    }
}

struct Rig {
    manager: AlertManager,
    clock: Arc<ManualClock>,
    channel: Memory,
}

impl Rig {
    fn new(options: AlertOptions, config: ChannelConfig) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let manager = AlertManager::without_thread(AlertOptions { clock: clock.clone(), ..options });
        let channel = Memory::new("memory");
        manager.add_channel(channel.clone(), config).unwrap();
        Self { manager, clock, channel }
    }

    fn plain() -> Self {
        Self::new(AlertOptions::default(), ChannelConfig::default())
    }

    fn send(&self, key: &str, severity: Severity) -> Verdict {
        self.manager.send(&alert(key, severity)).verdict
    }

    /// Time passes, and what is due happens.
    async fn pass(&self, seconds: u64) -> Vec<String> {
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

#[tokio::test]
async fn exactly_one_page_arrives_and_it_resolves_itself() {
    let rig = Rig::plain();
    assert_eq!(rig.send("a", Severity::Critical), Verdict::Accepted);
    for _ in 0..10 {
        assert_eq!(rig.send("a", Severity::Critical), Verdict::Duplicate);
    }
    assert_eq!(rig.pass(60).await, ["a critical"]);
    assert_eq!(rig.send("a", Severity::Resolved), Verdict::Accepted);
    assert_eq!(rig.send("a", Severity::Resolved), Verdict::NotOpen);
    assert_eq!(rig.pass(1).await, ["a resolved"]);
    let resolved = rig.channel.last();
    assert_eq!((resolved.starts_at, resolved.ends_at), (START, Some(START.saturating_add(Duration::from_secs(60)))));
    let stats = rig.stats();
    assert_eq!((stats.sent, stats.deduplicated, stats.not_open, stats.open), (2, 10, 1, 0));
    assert_eq!((stats.channels[0].delivered, stats.channels[0].queued), (2, 0));
}

#[tokio::test]
async fn a_channel_gets_what_it_asked_for_and_the_end_of_whatever_it_got() {
    let rig = Rig::plain();
    let loud = Memory::new("loud");
    let config = ChannelConfig {
        min_severity: Severity::Critical,
        matchers: vec!["agent=~\"support.*\"".parse().unwrap()],
        ..ChannelConfig::default()
    };
    rig.manager.add_channel(loud.clone(), config).unwrap();
    let off = ChannelConfig { enabled: false, ..ChannelConfig::default() };
    rig.manager.add_channel(Memory::new("off"), off).unwrap();
    let decisions = |key: &str, severity| -> BTreeMap<String, Decision> {
        let sent = rig.manager.send(&alert(key, severity));
        sent.channels.into_iter().map(|result| (result.channel.to_string(), result.decision)).collect()
    };
    let of = |memory, loud, off| {
        BTreeMap::from([("memory".to_owned(), memory), ("loud".to_owned(), loud), ("off".to_owned(), off)])
    };
    use Decision::{BelowSeverity, Disabled, NotMatched, Queued};
    assert_eq!(decisions("support/1", Severity::Info), of(BelowSeverity, BelowSeverity, Disabled));
    assert_eq!(decisions("support/1", Severity::Warning), of(Queued, BelowSeverity, Disabled));
    assert_eq!(decisions("support/1", Severity::Critical), of(Queued, Queued, Disabled), "worse passes at once");
    assert_eq!(decisions("planner/1", Severity::Critical), of(Queued, NotMatched, Disabled));
    rig.send("support/1", Severity::Resolved);
    rig.send("planner/1", Severity::Resolved);
    rig.manager.deliver_due().await;
    assert_eq!(loud.take(), ["support/1 critical", "support/1 resolved"]);
    assert_eq!(rig.channel.take().len(), 5);
    assert_eq!(rig.manager.list_channels(), ["memory", "loud", "off"]);
    assert!(rig.manager.remove_channel("loud") && !rig.manager.remove_channel("loud"));
    assert!(rig.manager.add_channel(Memory::new("off"), ChannelConfig::default()).is_err());
}

#[tokio::test]
async fn a_resolution_never_overtakes_its_trigger() {
    let rig = Rig::plain();
    rig.channel.fails_with([rejected(503, None), rejected(429, Some(30))]);
    rig.send("a", Severity::Critical);
    assert!(rig.pass(0).await.is_empty());
    rig.send("a", Severity::Resolved);
    rig.send("b", Severity::Critical);
    // `b` meets the second failure, then waits as long as it was asked to.
    assert!(rig.pass(0).await.is_empty());
    assert_eq!(rig.pass(1).await, ["a critical", "a resolved"]);
    assert!(rig.pass(28).await.is_empty());
    assert_eq!(rig.pass(1).await, ["b critical"]);
    assert_eq!((rig.stats().channels[0].retries, rig.stats().channels[0].delivered), (2, 3));
}

#[tokio::test]
async fn what_cannot_succeed_is_not_tried_again_and_everything_else_not_for_ever() {
    let retry = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    let rig = Rig::new(AlertOptions { retry, ..AlertOptions::default() }, ChannelConfig::default());
    rig.channel.fails_with([rejected(400, None)]);
    rig.send("a", Severity::Critical);
    assert!(rig.pass(0).await.is_empty());
    assert_eq!((rig.stats().channels[0].failed, rig.stats().channels[0].retries), (1, 0));
    assert_eq!(rig.stats().channels[0].last_error, "answered 400: no");
    rig.channel.fails_with((0..3).map(|_| rejected(500, None)));
    rig.send("b", Severity::Critical);
    for _ in 0..3 {
        assert!(rig.pass(300).await.is_empty());
    }
    assert_eq!((rig.stats().channels[0].failed, rig.stats().channels[0].retries), (2, 2));
    // The failed trigger does not stand in the way of what follows.
    rig.send("b", Severity::Resolved);
    assert_eq!(rig.pass(0).await, ["b resolved"]);
}

#[tokio::test]
async fn a_silence_holds_and_what_still_fires_is_sent_when_it_ends() {
    let rig = Rig::plain();
    let silence = Silence {
        matchers: vec!["agent=support".parse().unwrap()],
        starts_at: START,
        ends_at: START.saturating_add(Duration::from_secs(600)),
        author: "ann".into(),
        comment: "deploying".into(),
    };
    let until = silence.ends_at;
    let id = rig.manager.silence(silence.clone()).unwrap();
    let sent = rig.manager.send(&alert("support/goes on", Severity::Critical));
    assert_eq!(sent.channels[0].decision, Decision::Silenced { until });
    rig.send("support/ends", Severity::Critical);
    rig.send("planner/1", Severity::Critical);
    assert_eq!(rig.pass(599).await, ["planner/1 critical"]);
    assert_eq!(rig.send("support/ends", Severity::Resolved), Verdict::NotOpen, "nothing was sent");
    assert_eq!(rig.pass(1).await, ["support/goes on critical"]);
    assert_eq!(rig.stats().silenced, 2);
    assert!(rig.manager.silences().is_empty());
    // Taken away early, a silence lets go of what it holds at once.
    assert!(!rig.manager.end_silence(sre_alerts::SilenceId(77)));
    let id = {
        assert!(rig.manager.end_silence(id) || rig.manager.silences().is_empty());
        let ends_at = until.saturating_add(Duration::from_secs(600));
        rig.manager.silence(Silence { starts_at: until, ends_at, ..silence }).unwrap()
    };
    rig.send("support/later", Severity::Warning);
    rig.send("support/later", Severity::Critical);
    assert!(rig.pass(1).await.is_empty());
    assert!(rig.manager.end_silence(id));
    assert_eq!(rig.pass(0).await, ["support/later critical"], "only the worse one");
}

#[tokio::test]
async fn a_maintenance_window_holds_too() {
    let (from, until) = (START, START.saturating_add(Duration::from_secs(60)));
    let window = MaintenanceWindow { name: "move".into(), matchers: vec![], schedule: Schedule::Once { from, until } };
    let rig = Rig::new(AlertOptions { maintenance: vec![window], ..AlertOptions::default() }, ChannelConfig::default());
    rig.send("a", Severity::Critical);
    assert!(rig.pass(59).await.is_empty());
    assert_eq!(rig.pass(1).await, ["a critical"]);
}

#[tokio::test]
async fn alerts_that_share_labels_are_one_message() {
    let options = AlertOptions { group_by: vec!["agent".into()], ..AlertOptions::default() };
    let rig = Rig::new(options, ChannelConfig::default());
    for key in ["support/1", "support/2", "planner/1"] {
        assert_eq!(rig.manager.send(&alert(key, Severity::Warning)).channels[0].decision, Decision::Grouped);
    }
    assert!(rig.pass(29).await.is_empty());
    assert_eq!(rig.pass(1).await, ["group/agent=planner warning", "group/agent=support warning"]);
    let both = rig.channel.last();
    assert_eq!((&*both.title, &*both.agent_id), ("2 alerts: agent=support", "support"));
    assert!(both.message.contains("support/1 burns") && both.message.contains("support/2 burns"), "{}", both.message);
    // What is worse does not wait; what resolves one of two waits for more.
    rig.send("support/3", Severity::Critical);
    assert_eq!(rig.pass(0).await, ["group/agent=support critical"]);
    rig.send("support/1", Severity::Resolved);
    assert!(rig.pass(29).await.is_empty());
    assert_eq!(rig.pass(1).await, ["group/agent=support critical"]);
    rig.send("support/2", Severity::Resolved);
    rig.send("support/3", Severity::Resolved);
    assert_eq!(rig.pass(0).await, ["group/agent=support resolved"], "nothing of it fires any more");
    // What comes and goes within the wait is not sent.
    rig.send("writer/1", Severity::Warning);
    rig.send("writer/1", Severity::Resolved);
    assert!(rig.pass(60).await.is_empty());
}

#[tokio::test]
async fn what_the_rate_limit_holds_back_comes_as_one_summary() {
    let limit = RateLimit { messages: 2.try_into().unwrap(), per: Duration::from_secs(60) };
    let config = ChannelConfig { rate_limit: Some(limit), ..ChannelConfig::default() };
    let rig = Rig::new(AlertOptions::default(), config);
    for number in 0..52 {
        rig.send(&format!("agent/{number}"), Severity::Warning);
    }
    assert_eq!(rig.pass(0).await, ["agent/0 warning", "agent/1 warning"]);
    assert_eq!(rig.stats().channels[0].held, 50);
    // One that is over before it was told needs no telling, and its end goes out.
    rig.send("agent/51", Severity::Resolved);
    assert_eq!(rig.pass(29).await, ["agent/51 resolved"]);
    assert_eq!(rig.pass(1).await.len(), 1);
    let summary = rig.channel.last();
    assert_eq!(summary.title, "49 alerts: held back by the channel's rate limit");
    assert!(
        summary.message.contains("agent/2 burns") && summary.message.ends_with("… and 29 more"),
        "{}",
        summary.message
    );
    assert_eq!((rig.stats().channels[0].held, rig.stats().channels[0].summarised), (0, 49));
    // Once everything in it is over, so is the summary.
    (2..51).for_each(|number| {
        rig.send(&format!("agent/{number}"), Severity::Resolved);
    });
    let said = rig.pass(0).await;
    assert_eq!(said.len(), 50);
    assert_eq!(rig.channel.last().dedup_key, summary.dedup_key);
    assert_eq!(rig.channel.last().severity, Severity::Resolved);
}

#[tokio::test]
async fn an_incident_is_repeated_until_somebody_acknowledges() {
    let options = AlertOptions { repeat_interval: Some(Duration::from_secs(3_600)), ..AlertOptions::default() };
    let rig = Rig::new(options, ChannelConfig::default());
    rig.send("a", Severity::Warning);
    assert_eq!(rig.pass(1_000).await, ["a warning"]);
    rig.send("a", Severity::Critical);
    assert_eq!(rig.pass(3_599).await, ["a critical"]);
    assert_eq!(rig.pass(1).await, ["a critical"], "an hour after the last time it was sent");
    assert_eq!(rig.pass(3_600).await, ["a critical"]);
    assert!(rig.manager.acknowledge("a", "ann").unwrap());
    assert!(!rig.manager.acknowledge("b", "ann").unwrap());
    assert_eq!(rig.pass(36_000).await, ["a acknowledged by ann"]);
    assert_eq!(rig.stats().repeated, 2);
}

#[tokio::test]
async fn nobody_acknowledges_so_the_next_one_is_told() {
    let after = Duration::from_secs(900);
    let channels = ["memory", "second", "third"].map(str::to_owned).to_vec();
    let options = AlertOptions { escalations: vec![EscalationPolicy { channels, after }], ..AlertOptions::default() };
    let rig = Rig::new(options, ChannelConfig::default());
    let (second, third) = (Memory::new("second"), Memory::new("third"));
    rig.manager.add_channel(second.clone(), ChannelConfig::default()).unwrap();
    rig.manager.add_channel(third.clone(), ChannelConfig::default()).unwrap();
    let sent = rig.manager.send(&alert("a", Severity::Critical));
    assert_eq!(sent.receivers().collect::<Vec<_>>(), ["memory"]);
    assert_eq!(sent.channels.iter().filter(|result| result.decision == Decision::EscalationOnly).count(), 2);
    rig.send("b", Severity::Critical);
    assert_eq!(rig.pass(899).await.len(), 2);
    assert!(rig.manager.acknowledge("b", "ann").unwrap());
    assert_eq!(rig.pass(1).await, ["b acknowledged by ann"]);
    assert_eq!(second.take(), ["a critical"]);
    assert!(third.take().is_empty());
    rig.pass(900).await;
    assert_eq!(third.take(), ["a critical"]);
    rig.send("a", Severity::Resolved);
    rig.pass(0).await;
    assert_eq!((second.take(), third.take()), (vec!["a resolved".to_owned()], vec!["a resolved".to_owned()]));
    assert_eq!(rig.stats().escalated, 2);
    // An incident that is over leaves nothing behind for the next of its key.
    rig.send("c", Severity::Critical);
    rig.pass(600).await;
    rig.send("c", Severity::Resolved);
    rig.send("c", Severity::Critical);
    rig.pass(899).await;
    assert!(second.take().is_empty());
    rig.pass(1).await;
    assert_eq!(second.take(), ["c critical"]);
}

#[tokio::test]
async fn a_full_queue_says_so_and_counts() {
    let options = AlertOptions { queue_limit: 2, ..AlertOptions::default() };
    let rig = Rig::new(options, ChannelConfig::default());
    let decisions: Vec<Decision> =
        ["a", "b", "c"].map(|key| rig.manager.send(&alert(key, Severity::Warning)).channels[0].decision).to_vec();
    assert_eq!(decisions, [Decision::Queued, Decision::Queued, Decision::QueueFull]);
    assert_eq!(rig.stats().channels[0].dropped, 1);
    assert_eq!(rig.pass(0).await.len(), 2);
}

#[test]
fn a_shutdown_says_what_it_could_not_deliver() {
    let manager = AlertManager::new(AlertOptions { queue_limit: 2, ..AlertOptions::default() }).unwrap();
    let channel = Memory::new("down");
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
fn a_channel_that_panics_harms_nobody() {
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
    assert_eq!(manager.send(&alert("a", Severity::Critical)).verdict, Verdict::Accepted, "news again");
    assert_eq!(manager.shutdown(Duration::from_secs(30)), 0);
    assert_eq!(receiver.recv().unwrap(), "a burns");
}

/// The thread delivers what waited behind another message of its key, without being woken for it.
#[test]
fn the_thread_leaves_nothing_behind() {
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
async fn what_signals_say_can_be_said_otherwise() {
    use sre_core::{Signal, SignalHandler, SignalKind};
    let mapping = |signal: &Signal| match &signal.kind {
        SignalKind::Custom { name, .. } if name == "chatter" => None,
        SignalKind::Custom { name, severity, .. } => {
            Some(Alert { severity: *severity, dedup_key: name.clone(), ..Alert::new("Hoppla", "Schau mal nach.") })
        }
        _ => sre_alerts::default_mapping(signal),
    };
    let rig =
        Rig::new(AlertOptions { mapping: Arc::new(mapping), ..AlertOptions::default() }, ChannelConfig::default());
    let signal = |name: &str| {
        let kind = SignalKind::Custom { name: name.into(), severity: Severity::Critical, message: "m".into() };
        Signal { time: START, agent: "a".into(), kind }
    };
    rig.manager.handle(&signal("chatter"));
    rig.manager.handle(&signal("cascade"));
    assert_eq!(rig.pass(0).await, ["cascade critical"]);
    assert_eq!(rig.channel.last().title, "Hoppla");
}
