//! The manager with a SQLite store: store failures and restarts.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sre_alerts::{
    AlertManager, AlertOptions, CallbackChannel, ChannelConfig, EscalationPolicy, MaintenanceWindow,
    PersistentAlertManager, Schedule, Silence, Verdict,
};
use sre_core::{Alert, AlertQuery, AlertStore, Clock, DeliveryState, ManualClock, Severity, Timestamp};
use sre_store_sqlite::SqliteAlertStore;

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// One run of a process: a manager with the store file, and what its channels received.
struct Run {
    manager: AlertManager,
    clock: Arc<ManualClock>,
    delivered: Arc<Mutex<Vec<String>>>,
}

impl Run {
    fn new(folder: &Path, now: Timestamp, options: AlertOptions) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let store = Arc::new(SqliteAlertStore::open(folder.join("alerts.db")).unwrap());
        let options = AlertOptions { clock: clock.clone(), store: Some(store), ..options };
        let manager = AlertManager::without_thread(options);
        let delivered: Arc<Mutex<Vec<String>>> = Arc::default();
        let channels = ["first", "second"].map(|name| {
            let delivered = delivered.clone();
            let channel = CallbackChannel::new(name, move |alert| {
                delivered.lock().unwrap().push(format!("{name}: {} {}", alert.dedup_key, alert.severity));
            });
            (Arc::new(channel) as Arc<_>, ChannelConfig::default())
        });
        manager.add_channels(channels.into()).unwrap();
        Self { manager, clock, delivered }
    }

    fn send(&self, key: &str, severity: Severity) -> Verdict {
        self.manager.send(&Alert { severity, dedup_key: key.into(), ..Alert::new(key, "burns") }).verdict
    }

    async fn advance(&self, seconds: u64) -> Vec<String> {
        self.clock.advance(Duration::from_secs(seconds));
        self.manager.deliver_due().await;
        std::mem::take(&mut self.delivered.lock().unwrap())
    }
}

#[tokio::test]
async fn alerts_are_delivered_while_the_store_fails_and_the_failure_is_alerted() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(folder.path(), START, AlertOptions::default());
    let file = rusqlite::Connection::open(folder.path().join("alerts.db")).unwrap();
    file.execute_batch("ALTER TABLE deliveries RENAME TO gone").unwrap();
    assert_eq!(run.send("a", Severity::Critical), Verdict::Accepted);
    let delivered = run.advance(0).await;
    for expected in ["first: a critical", "second: a critical", "first: sre-alerts/store critical"] {
        assert!(delivered.iter().any(|delivered| delivered == expected), "{delivered:?}");
    }
    let stats = run.manager.stats();
    assert!(stats.store_failures >= 1 && stats.channels[0].delivered == 2, "{stats:?}");

    file.execute_batch("ALTER TABLE gone RENAME TO deliveries").unwrap();
    assert_eq!(run.send("b", Severity::Critical), Verdict::Accepted);
    let delivered = run.advance(1).await;
    assert!(delivered.contains(&"first: b critical".to_owned()), "{delivered:?}");
    assert!(delivered.contains(&"first: sre-alerts/store resolved".to_owned()), "{delivered:?}");
}

#[tokio::test]
async fn a_restart_restores_open_incidents_and_when_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(folder.path(), START, AlertOptions::default());
    run.send("a", Severity::Critical);
    run.send("b", Severity::Critical);
    run.send("b", Severity::Resolved);
    assert_eq!(run.advance(0).await.len(), 6);
    drop(run);
    let run = Run::new(folder.path(), START.saturating_add(Duration::from_secs(60)), AlertOptions::default());
    assert!(run.advance(0).await.is_empty(), "nothing is sent twice");
    assert_eq!(run.send("a", Severity::Critical), Verdict::Duplicate);
    assert_eq!(run.send("b", Severity::Resolved), Verdict::NotOpen);
    assert_eq!(run.send("a", Severity::Resolved), Verdict::Accepted);
    assert_eq!(run.advance(0).await, ["first: a resolved", "second: a resolved"]);
}

#[tokio::test]
async fn silenced_alerts_are_still_held_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = Schedule::Once { from: START, until: START.saturating_add(Duration::from_secs(600)) };
    let window = MaintenanceWindow::new("move", vec![], schedule);
    let options = || AlertOptions { maintenance: vec![window.clone()], ..AlertOptions::default() };
    let run = Run::new(folder.path(), START, options());
    run.send("goes on", Severity::Warning);
    run.send("ends", Severity::Warning);
    assert!(run.advance(0).await.is_empty());
    drop(run);
    let run = Run::new(folder.path(), START.saturating_add(Duration::from_secs(60)), options());
    assert!(run.advance(0).await.is_empty());
    run.send("ends", Severity::Resolved);
    assert_eq!(run.advance(540).await, ["first: goes on warning", "second: goes on warning"]);
}

#[tokio::test]
async fn a_silence_outlives_the_process_that_created_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(folder.path(), START, AlertOptions::default());
    let silence = |matcher: &str, seconds| Silence {
        matchers: vec![matcher.parse().unwrap()],
        starts_at: START,
        ends_at: START.saturating_add(Duration::from_secs(seconds)),
        author: "ann".into(),
        comment: "known".into(),
    };
    let short = run.manager.silence(silence("severity=info", 10)).unwrap();
    let long = run.manager.silence(silence("severity=~\"warning|info\"", 600)).unwrap();
    let ended = run.manager.silence(silence("severity=critical", 600)).unwrap();
    assert!(run.manager.end_silence(ended));
    drop(run);
    let run = Run::new(folder.path(), START.saturating_add(Duration::from_secs(60)), AlertOptions::default());
    let silences = run.manager.silences();
    assert_eq!(silences, [(long, silence("severity=~\"warning|info\"", 600))], "and not {short:?}, which has ended");
    run.send("a", Severity::Warning);
    run.send("b", Severity::Critical);
    assert_eq!(run.advance(539).await, ["first: b critical", "second: b critical"]);
    assert_eq!(run.advance(1).await, ["first: a warning", "second: a warning"]);
}

#[tokio::test]
async fn an_escalation_continues_after_a_restart_unless_acknowledged_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        let after = Duration::from_secs(900);
        let escalation = EscalationPolicy::new(vec!["first".into(), "second".into()], after);
        AlertOptions { escalations: vec![escalation], ..AlertOptions::default() }
    };
    let run = Run::new(folder.path(), START, options());
    run.send("a", Severity::Critical);
    run.send("b", Severity::Critical);
    assert_eq!(run.advance(0).await, ["first: a critical", "first: b critical"]);
    drop(run);
    let run = Run::new(folder.path(), START.saturating_add(Duration::from_secs(899)), options());
    assert!(run.advance(0).await.is_empty());
    // Acknowledged through another process.
    let other = SqliteAlertStore::open(folder.path().join("alerts.db")).unwrap();
    assert!(other.acknowledge("a", "ann", run.clock.now()).unwrap());
    assert_eq!(run.advance(1).await, ["second: b critical"]);
}

#[test]
fn the_history_records_the_delivery_to_each_channel() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteAlertStore::open(folder.path().join("alerts.db")).unwrap());
    let manager = PersistentAlertManager::new(store, AlertOptions::default()).unwrap();
    manager.add_channel(CallbackChannel::new("sound", |_| {}), ChannelConfig::default()).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    manager.add_channel(CallbackChannel::new("broken", |_| panic!("a mistake")), ChannelConfig::default()).unwrap();
    let alerts: Vec<Alert> = (0..50)
        .map(|number| Alert {
            agent_id: format!("agent-{}", number % 5),
            dedup_key: number.to_string(),
            ..Alert::new("t", "m")
        })
        .collect();
    let sent = manager.send_all(alerts);
    assert!(sent.iter().all(|sent| sent.id.is_some()));
    assert!(manager.flush(Duration::from_secs(30)));
    assert_eq!(manager.alert_count().unwrap(), 50);
    let query = AlertQuery {
        agent_id: Some("agent-3".into()),
        severity: Some(Severity::Warning),
        limit: Some(4),
        ..AlertQuery::default()
    };
    let records = manager.query_alerts(&query).unwrap();
    assert_eq!(records.len(), 4);
    for record in records {
        let of = |name: &str| record.deliveries.iter().find(|delivery| &*delivery.channel == name).unwrap();
        assert_eq!((of("sound").state, of("sound").attempts), (DeliveryState::Delivered, 1));
        assert_eq!(
            (of("broken").state, of("broken").error.as_deref()),
            (DeliveryState::Failed, Some("panicked: a mistake"))
        );
    }
    assert!(manager.acknowledge("7", "ann").unwrap());
    assert!(!manager.acknowledge("nobody", "ann").unwrap());
}

#[tokio::test]
async fn an_alert_before_any_channel_can_be_sent_again_with_a_store_too() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn AlertStore> = Arc::new(SqliteAlertStore::open(folder.path().join("alerts.db")).unwrap());
    let manager = AlertManager::without_thread(AlertOptions { store: Some(store), ..AlertOptions::default() });
    let alert = Alert { dedup_key: "disk".into(), ..Alert::new("Disk is full", "no space") };
    assert_eq!(manager.send(&alert).verdict, Verdict::NoChannel);
    let delivered = Arc::new(Mutex::new(0));
    let count = delivered.clone();
    let channel = CallbackChannel::new("ops", move |_| *count.lock().unwrap() += 1);
    manager.add_channel(channel, ChannelConfig::default()).unwrap();
    assert_eq!(manager.send(&alert).verdict, Verdict::Accepted);
    manager.deliver_due().await;
    assert_eq!(*delivered.lock().unwrap(), 1);
}
