//! The manager with a store: leases and batches.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sre_alerts::{AlertManager, AlertOptions, ChannelConfig};
use sre_core::{Alert, AlertQuery, AlertStore, DeliveryState, ManualClock, RetryPolicy, Severity, Timestamp};
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
