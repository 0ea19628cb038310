//! What the manager makes of signals: pages that were lost, and single occurrences.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sre_alerts::{AlertManager, AlertOptions, ChannelConfig, Silence};
use sre_core::{AlertStore, ManualClock, RetryPolicy, Severity, Signal, SignalHandler, Timestamp};
use support::{MemoryStore, TestChannel};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn manager(options: AlertOptions) -> (AlertManager, TestChannel, Arc<ManualClock>) {
    manager_at(options, Arc::new(ManualClock::new(START)))
}

fn manager_at(options: AlertOptions, clock: Arc<ManualClock>) -> (AlertManager, TestChannel, Arc<ManualClock>) {
    let manager = AlertManager::without_thread(AlertOptions { clock: clock.clone(), ..options });
    let channel = TestChannel::new("ops");
    let every = ChannelConfig { min_severity: Severity::Info, ..ChannelConfig::default() };
    manager.add_channel(channel.clone(), every).unwrap();
    (manager, channel, clock)
}

fn firing(key: &str) -> Signal {
    Signal::firing("slo", key, Severity::Critical, START).with_text(key, "burns")
}

async fn deliver(manager: &AlertManager, channel: &TestChannel) -> Vec<String> {
    manager.deliver_due().await;
    channel.take()
}

#[tokio::test]
async fn a_page_that_a_channel_could_not_deliver_is_delivered_when_it_is_asserted_again() {
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let (manager, channel, _) = manager(AlertOptions { retry, ..AlertOptions::default() });
    let intact = TestChannel::new("intact");
    manager.add_channel(intact.clone(), ChannelConfig::default()).unwrap();
    channel.is_down.store(true, Ordering::Relaxed);
    manager.handle(&[firing("a")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, [""; 0]);
    assert_eq!(intact.take(), ["a critical: burns"]);
    manager.handle(&[firing("a")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, [""; 0], "still down");
    channel.is_down.store(false, Ordering::Relaxed);
    manager.handle(&[firing("a")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, ["a critical: burns"]);
    manager.handle(&[firing("a")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, [""; 0], "nothing is lost any more");
    assert_eq!(intact.take(), [""; 0], "the other channel had it");
}

#[tokio::test]
async fn a_page_that_a_full_queue_has_lost_is_delivered_when_it_is_asserted_again() {
    let (manager, channel, _) = manager(AlertOptions { queue_limit: 1, ..AlertOptions::default() });
    manager.handle(&[firing("a"), firing("b")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, ["a critical: burns"]);
    manager.handle(&[firing("a"), firing("b")], &mut |_| {});
    assert_eq!(deliver(&manager, &channel).await, ["b critical: burns"]);
}

#[tokio::test]
async fn a_single_occurrence_is_sent_once_and_opens_no_incident() {
    let store = MemoryStore::default();
    let options = AlertOptions {
        repeat_interval: Some(Duration::from_secs(60)),
        store: Some(Arc::new(store.clone())),
        ..AlertOptions::default()
    };
    let (first, channel, clock) = manager(options.clone());
    let unusual = Signal::one_off("cost", "unusual", Severity::Warning, START).with_text("unusual", "a cost of $5");
    let sent = "unusual/2026-09-21T14:13:20Z warning: a cost of $5";
    first.handle(std::slice::from_ref(&unusual), &mut |_| {});
    assert_eq!(deliver(&first, &channel).await, [sent]);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(deliver(&first, &channel).await, [""; 0], "no repeat");
    assert_eq!((first.stats().open, store.open_incidents().unwrap().len()), (0, 0));
    // Engines that were not saved raise it again.
    let (second, channel, _) = manager_at(options, clock);
    second.handle(std::slice::from_ref(&unusual), &mut |_| {});
    assert_eq!(deliver(&second, &channel).await, [""; 0], "it is in the history");
    assert_eq!(second.stats().deduplicated, 1);
}

#[tokio::test]
async fn an_incident_that_begins_after_the_clock_was_set_back_is_sent() {
    let options = AlertOptions { store: Some(Arc::new(MemoryStore::default())), ..AlertOptions::default() };
    let (first, channel, clock) = manager(options.clone());
    let after = |seconds| START.saturating_add(Duration::from_secs(seconds));
    let at = |signal: Signal, seconds| {
        clock.set(after(seconds));
        signal
    };
    first.handle(&[at(firing("a"), 7_200)], &mut |_| {});
    first.handle(&[at(Signal::resolved("slo", "a", after(7_260)), 7_260)], &mut |_| {});
    assert_eq!(deliver(&first, &channel).await.len(), 2);
    // Two hours later it is as late as before, in the same run and in one that starts then.
    let begun = |seconds| Signal::firing("slo", "a", Severity::Critical, after(seconds)).with_text("a", "burns");
    first.handle(&[at(begun(60), 61)], &mut |_| {});
    assert_eq!(deliver(&first, &channel).await, ["a critical: burns"]);
    first.handle(&[at(Signal::resolved("slo", "a", after(70)), 70)], &mut |_| {});
    assert_eq!(deliver(&first, &channel).await.len(), 1);
    clock.set(after(7_200));
    let (created_before, channel, _) = manager_at(options.clone(), clock.clone());
    clock.set(after(40));
    created_before.handle(&[begun(39)], &mut |_| {});
    assert_eq!(deliver(&created_before, &channel).await, ["a critical: burns"]);
}

#[tokio::test]
async fn a_single_occurrence_during_a_silence_is_not_sent_after_it() {
    let (manager, channel, clock) = manager(AlertOptions::default());
    let silence =
        Silence::new(vec!["source=cost".parse().unwrap()], START, START.saturating_add(Duration::from_secs(60)));
    manager.silence(silence).unwrap();
    manager.handle(&[Signal::one_off("cost", "unusual", Severity::Warning, START)], &mut |_| {});
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(deliver(&manager, &channel).await, [""; 0]);
    assert_eq!(manager.stats().silenced, 1);
}
