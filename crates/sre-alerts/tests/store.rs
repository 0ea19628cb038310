//! The manager with a store: leases, batches and failures.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use sre_alerts::{
    AlertManager, AlertOptions, ChannelConfig, EscalationPolicy, MaintenanceWindow, RateLimit, Schedule, SendReport,
    Verdict,
};
use sre_core::{
    Alert, AlertChannel, AlertQuery, AlertStore, DeliveryState, ManualClock, RetryPolicy, Severity, Signal,
    SignalHandler, Timestamp,
};
use support::{MemoryStore, TestChannel};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn alert(key: &str, severity: Severity) -> Alert {
    Alert { severity, dedup_key: key.into(), ..Alert::new(key, "burns") }
}

fn manager(store: MemoryStore, clock: &Arc<ManualClock>, channel: &TestChannel) -> AlertManager {
    let retry = RetryPolicy { attempts: 1_000, ..RetryPolicy::default() };
    let options = AlertOptions { clock: clock.clone(), store: Some(Arc::new(store)), retry, ..AlertOptions::default() };
    let manager = AlertManager::without_thread(options);
    manager.add_channel(channel.clone(), ChannelConfig::default()).unwrap();
    manager
}

#[test]
fn the_store_of_these_tests_conforms() {
    let store = MemoryStore::default();
    let owners = AtomicU64::new(0);
    sre_testkit::conformance::alert_store(&|| Arc::new(store.owner(owners.fetch_add(1, Ordering::Relaxed))));
}

#[tokio::test]
async fn deliveries_are_adopted_once_their_owner_stops_renewing_its_lease() {
    let clock = Arc::new(ManualClock::new(START));
    let store = MemoryStore::default();
    let (channel, other_channel) = (TestChannel::new("ops"), TestChannel::new("ops"));
    channel.is_down.store(true, Ordering::Relaxed);
    let owner = manager(store.clone(), &clock, &channel);
    owner.deliver_due().await;
    let other = manager(store.another_owner(), &clock, &other_channel);
    owner.send(&alert("a", Severity::Critical));
    for _ in 0..5 {
        clock.advance(Duration::from_secs(20));
        owner.deliver_due().await;
        other.deliver_due().await;
        assert!(other_channel.take().is_empty(), "the lease is renewed");
    }
    clock.advance(Duration::from_secs(20));
    other.deliver_due().await;
    assert!(other_channel.take().is_empty(), "the lease has not expired");
    clock.advance(Duration::from_secs(10));
    other.deliver_due().await;
    assert_eq!(other_channel.take(), ["a critical: burns"]);
    let record = &store.query(&AlertQuery::default()).unwrap()[0];
    assert_eq!(record.deliveries[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_pending_delivery_says_how_often_it_was_tried_and_why_the_last_attempt_failed() {
    let clock = Arc::new(ManualClock::new(START));
    let (store, channel) = (MemoryStore::default(), TestChannel::new("ops"));
    channel.is_down.store(true, Ordering::Relaxed);
    let manager = manager(store.clone(), &clock, &channel);
    let delivery = || store.query(&AlertQuery::default()).unwrap()[0].deliveries[0].clone();
    manager.send(&alert("a", Severity::Critical));
    assert_eq!((delivery().state, delivery().attempts), (DeliveryState::Pending, 0));
    for attempts in 1..=5 {
        manager.deliver_due().await;
        assert_eq!((delivery().state, delivery().attempts, delivery().at), (DeliveryState::Pending, attempts, START));
        assert!(delivery().error.is_some_and(|error| !error.is_empty()));
        clock.advance(Duration::from_secs(600));
    }
    channel.is_down.store(false, Ordering::Relaxed);
    manager.deliver_due().await;
    assert_eq!((delivery().state, delivery().attempts, delivery().error), (DeliveryState::Delivered, 6, None));
}

/// An engine that was saved before an incident began raises its signals again when the events are replayed.
#[tokio::test]
async fn an_incident_that_was_over_before_a_restart_is_not_sent_again() {
    let clock = Arc::new(ManualClock::new(START));
    let (store, channel) = (MemoryStore::default(), TestChannel::new("ops"));
    let at = |second| START.saturating_add(Duration::from_secs(second));
    let [begun, over] = [
        Signal::firing("slo", "slo/a", Severity::Critical, at(1)).with_text("a", "burns"),
        Signal::resolved("slo", "slo/a", at(2)).with_text("a", "over"),
    ];
    let handle = async |manager: &AlertManager, signals: &[Signal]| {
        manager.handle(signals, &mut |_| {});
        manager.deliver_due().await;
        channel.take()
    };
    let first = manager(store.clone(), &clock, &channel);
    clock.advance(Duration::from_secs(3));
    assert_eq!(handle(&first, &[begun.clone(), over.clone()]).await, ["slo/a critical: burns", "slo/a resolved: over"]);
    drop(first);
    let second = manager(store, &clock, &channel);
    assert_eq!(handle(&second, &[begun.clone(), over]).await, [""; 0], "they are in the history");
    let mut again = begun;
    again.time = at(3);
    assert_eq!(handle(&second, &[again]).await, ["slo/a critical: burns"], "another incident");
}

#[tokio::test]
async fn a_batch_of_a_thousand_alerts_is_one_append() {
    let clock = Arc::new(ManualClock::new(START));
    let (store, channel) = (MemoryStore::default(), TestChannel::new("ops"));
    let manager = manager(store.clone(), &clock, &channel);
    let alerts = (0..1_000).map(|number| alert(&number.to_string(), Severity::Critical)).collect();
    let reports = manager.send_all(alerts);
    assert!(reports.iter().all(|report| report.verdict == Verdict::Accepted && report.id.is_some()));
    assert_eq!((reports.len(), store.appends(), store.count().unwrap()), (1_000, 1, 1_000));
    manager.deliver_due().await;
    assert_eq!(channel.take().len(), 1_000);
}

#[tokio::test]
async fn a_batch_is_delivered_while_the_store_fails() {
    let clock = Arc::new(ManualClock::new(START));
    let (store, channel) = (MemoryStore::default(), TestChannel::new("ops"));
    let manager = manager(store.clone(), &clock, &channel);
    store.set_failing(true);
    let batch = ["a", "b"].map(|key| alert(key, Severity::Critical)).to_vec();
    let reports = manager.send_all(batch.clone());
    assert!(reports.iter().all(|report| report.verdict == Verdict::Accepted && report.id.is_none()));
    assert!(manager.send_all(batch).iter().all(|report| report.verdict == Verdict::Duplicate));
    manager.deliver_due().await;
    let keys = |delivered: Vec<String>| -> Vec<String> {
        delivered.iter().map(|line| line.split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(channel.take()), ["a critical", "b critical", "sre-alerts/store critical"]);
    store.set_failing(false);
    let reports = manager.send_all(vec![alert("a", Severity::Resolved), alert("b", Severity::Resolved)]);
    assert!(reports.iter().all(|report| report.id.is_some()));
    manager.deliver_due().await;
    assert_eq!(keys(channel.take()), ["a resolved", "b resolved", "sre-alerts/store resolved"]);
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<(u8, Severity)>),
    Advance(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let severity =
        prop_oneof![Just(Severity::Resolved), Just(Severity::Info), Just(Severity::Warning), Just(Severity::Critical)];
    let step = prop_oneof![
        3 => prop::collection::vec((0..4u8, severity), 0..12).prop_map(Step::Send),
        1 => (0..600u16).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..15)
}

/// Options under which key 1 is silenced for the first 20 minutes.
fn options(is_grouped: bool) -> AlertOptions {
    let schedule = Schedule::Once { from: START, until: START.saturating_add(Duration::from_secs(1_200)) };
    let window = MaintenanceWindow::new("move", vec!["agent=1".parse().unwrap()], schedule);
    let policy = EscalationPolicy::new(vec!["ops".into(), "lead".into()], Duration::from_secs(600));
    AlertOptions {
        group_by: if is_grouped { vec!["agent".into()] } else { Vec::new() },
        repeat_interval: Some(Duration::from_secs(900)),
        escalations: vec![policy],
        maintenance: vec![window],
        max_incidents: 3,
        ..AlertOptions::default()
    }
}

/// The reports of all alerts, what each channel got after each step, and the final statistics and records.
type Outcome = (Vec<SendReport>, Vec<[Vec<String>; 4]>, String);

fn run(steps: &[Step], is_grouped: bool, send: impl Fn(&AlertManager, Vec<Alert>) -> Vec<SendReport>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let store = MemoryStore::default();
    let options = AlertOptions { clock: clock.clone(), store: Some(Arc::new(store.clone())), ..options(is_grouped) };
    let manager = AlertManager::without_thread(options);
    let channels = ["ops", "lead", "limited", "pager"].map(TestChannel::new);
    let limit = RateLimit { messages: 2.try_into().unwrap(), per: Duration::from_secs(300) };
    for channel in &channels {
        let rate_limit = (channel.name() == "limited").then_some(limit);
        let min_severity = if channel.name() == "pager" { Severity::Critical } else { Severity::Info };
        let config = ChannelConfig { rate_limit, min_severity, ..ChannelConfig::default() };
        manager.add_channel(channel.clone(), config).unwrap();
    }
    let (mut reports, mut delivered) = (Vec::new(), Vec::new());
    for step in steps.iter().chain([&Step::Advance(3_600)]) {
        match step {
            Step::Send(alerts) => {
                let alerts = alerts.iter().enumerate().map(|(index, (key, severity))| {
                    let alert = alert(&format!("key-{key}"), *severity);
                    Alert { agent_id: key.to_string(), message: index.to_string(), ..alert }
                });
                reports.extend(send(&manager, alerts.collect()));
            }
            Step::Advance(seconds) => {
                clock.advance(Duration::from_secs((*seconds).into()));
                runtime.block_on(manager.deliver_due());
            }
        }
        delivered.push(channels.each_ref().map(TestChannel::take));
    }
    let mut records = store.query(&AlertQuery::default()).unwrap();
    for record in &mut records {
        record.deliveries.sort_by(|a, b| a.channel.cmp(&b.channel));
    }
    (reports, delivered, format!("{:?}\n{records:?}", manager.stats()))
}

proptest! {
    #[test]
    fn a_batch_is_like_sending_its_alerts_one_by_one(steps in steps(), is_grouped: bool) {
        let batches = run(&steps, is_grouped, AlertManager::send_all);
        let singles = run(&steps, is_grouped, |manager, alerts| alerts.iter().map(|alert| manager.send(alert)).collect());
        prop_assert_eq!(batches, singles);
    }
}
