//! Under any failures, every accepted alert is delivered once and in the order of its key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use sre_alerts::{AlertManager, AlertOptions, ChannelConfig, Verdict};
use sre_core::{
    Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, ManualClock, Notification, RetryPolicy, Severity,
    Timestamp,
};

/// Fails whenever the next of its flags is set.
struct Flaky {
    delivered: Arc<Mutex<Vec<(String, Severity)>>>,
    failures: Mutex<Vec<bool>>,
}

#[async_trait]
impl AlertChannel for Flaky {
    fn name(&self) -> &str {
        "flaky"
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        _http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        if self.failures.lock().unwrap().pop().unwrap_or(false) {
            return Err(ChannelError::Rejected { status: 503, message: "no".into(), retry_after: None });
        }
        tokio::task::yield_now().await;
        self.delivered.lock().unwrap().push((notification.alert.dedup_key.clone(), notification.alert.severity));
        Ok(DeliveryReceipt::default())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u8, Severity),
    Advance(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let severity =
        prop_oneof![Just(Severity::Resolved), Just(Severity::Info), Just(Severity::Warning), Just(Severity::Critical)];
    let step = prop_oneof![
        4 => (0..4u8, severity).prop_map(|(key, severity)| Step::Send(key, severity)),
        1 => (0..600u16).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn accepted_alerts_are_delivered_once_and_in_order(steps in steps(), failures in prop::collection::vec(any::<bool>(), 0..60)) {
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let retry = RetryPolicy { attempts: 1_000, ..RetryPolicy::default() };
        let options = AlertOptions { clock: clock.clone(), retry, ..AlertOptions::default() };
        let manager = AlertManager::without_thread(options);
        let channel = Flaky { delivered: delivered.clone(), failures: Mutex::new(failures) };
        let all = ChannelConfig { min_severity: Severity::Info, ..ChannelConfig::default() };
        manager.add_channel(channel, all).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut accepted: BTreeMap<String, Vec<Severity>> = BTreeMap::new();
        for step in steps.into_iter().chain((0..200).map(|_| Step::Advance(300))) {
            match step {
                Step::Send(key, severity) => {
                    let alert = Alert { severity, dedup_key: key.to_string(), ..Alert::new("t", "m") };
                    if manager.send(&alert).verdict == Verdict::Accepted {
                        accepted.entry(alert.dedup_key).or_default().push(severity);
                    }
                }
                Step::Advance(seconds) => {
                    clock.advance(Duration::from_secs(seconds.into()));
                    runtime.block_on(manager.deliver_due());
                }
            }
        }
        let mut arrived: BTreeMap<String, Vec<Severity>> = BTreeMap::new();
        for (key, severity) in delivered.lock().unwrap().iter() {
            arrived.entry(key.clone()).or_default().push(*severity);
        }
        prop_assert_eq!(arrived, accepted);
    }
}
