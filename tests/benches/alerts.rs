//! The cost of sending an alert, and the throughput of the durable path compared with bare SQLite.

use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use sre_alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig, Verdict};
use sre_core::{Alert, Severity};
use sre_store_sqlite::SqliteAlertStore;

fn alert(key: u64) -> Alert {
    let mut alert = Alert {
        dedup_key: format!("slo/answers/agent-{key:07}"),
        agent_id: format!("agent-{key:07}"),
        slo_name: "answers".into(),
        severity: Severity::Critical,
        ..Alert::new("answers of an agent: critical", "The error budget burns too fast: 14.4 times over the last 1h.")
    };
    alert.labels.insert("team".into(), "search".into());
    alert
}

/// A manager whose only channel counts its alerts, and the count.
fn manager(options: AlertOptions) -> (AlertManager, Arc<AtomicU64>) {
    let manager = AlertManager::new(options).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    let channel = CallbackChannel::new("count", move |alert| {
        black_box(alert);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    manager.add_channel(channel, ChannelConfig::default()).unwrap();
    (manager, count)
}

fn many() -> AlertOptions {
    AlertOptions { max_incidents: 2_000_000, queue_limit: 2_000_000, ..AlertOptions::default() }
}

/// Changes an alert's key in place, so that a benchmark measures the manager and not the construction of alerts.
fn rekey(alert: &mut Alert, key: u64) {
    use std::fmt::Write;
    alert.dedup_key.clear();
    write!(alert.dedup_key, "slo/answers/agent-{key:07}").unwrap();
}

/// A random cycle through this many words: following it measures single uncached memory accesses, each of which depends on
/// the one before.
fn cycle(words: usize) -> Vec<usize> {
    let mut next: Vec<usize> = (0..words).collect();
    let mut random = 1u64;
    // Sattolo's shuffle.
    for last in (1..words).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        next.swap(last, (random >> 33) as usize % last);
    }
    next
}

fn sending(c: &mut Criterion) {
    let mut group = c.benchmark_group("alerts");
    // A thousand incidents that begin and end: until `send` returns, and until the callback was called.
    for (name, waits) in [("send", false), ("send_until_called", true)] {
        group.bench_function(name, |b| {
            b.iter_custom(|alerts| {
                let (manager, count) = manager(many());
                let incidents: Vec<[Alert; 2]> =
                    (0..1_000).map(|key| [alert(key), Alert { severity: Severity::Resolved, ..alert(key) }]).collect();
                let start = Instant::now();
                for number in 0..alerts as usize {
                    let alert = &incidents[number % 1_000][number / 1_000 % 2];
                    black_box(manager.send(black_box(alert)));
                }
                let sent = start.elapsed();
                while count.load(Ordering::Relaxed) < alerts {
                    std::hint::spin_loop();
                }
                if waits { start.elapsed() } else { sent }
            });
        });
    }
    let memory = cycle(1 << 23);
    let mut at = 0;
    group.bench_function("memory_load", |b| {
        b.iter(|| {
            at = memory[at];
            at
        });
    });
    // `hot`: the same key every time. `dedup_hit`: random keys, in an order that caches cannot predict.
    for (name, keys) in [("hot", 1_000_000u64), ("dedup_hit", 1), ("dedup_hit", 1_000), ("dedup_hit", 1_000_000)] {
        let full = LazyCell::new(|| {
            let (manager, _) = manager(many());
            let mut alert = alert(0);
            for key in 0..keys {
                rekey(&mut alert, key);
                manager.send(&alert);
            }
            assert!(manager.flush(Duration::from_secs(60)));
            manager
        });
        group.bench_function(BenchmarkId::new(name, keys), |b| {
            let mut key = 0u64;
            let (manager, alert) = (&*full, alert(0));
            b.iter_custom(|hits| {
                // The keys are made beforehand, a thousand at a time.
                let mut elapsed = Duration::ZERO;
                let mut left = hits;
                let mut alerts: Vec<Alert> = (0..1_000).map(|_| alert.clone()).collect();
                while left > 0 {
                    let round = left.min(1_000);
                    for alert in &mut alerts[..round as usize] {
                        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        rekey(alert, if name == "hot" { keys / 2 } else { (key >> 33) % keys });
                    }
                    let start = Instant::now();
                    for alert in &alerts[..round as usize] {
                        let verdict = manager.send(black_box(alert)).verdict;
                        assert_eq!(verdict, Verdict::Duplicate);
                    }
                    elapsed += start.elapsed();
                    left -= round;
                }
                elapsed
            });
        });
    }
    group.finish();
}

const ALERT: &str = "INSERT INTO alerts (at, severity, agent_id, slo_name, dedup_key, body) VALUES (?, ?, ?, ?, ?, ?)";
const DELIVERY: &str = "INSERT INTO deliveries (alert, channel, state, owner, attempts, at) VALUES (?, ?, ?, ?, ?, ?)";

/// How many alerts go into one transaction.
const BATCH: u64 = 1_000;

fn durable(c: &mut Criterion) {
    let mut group = c.benchmark_group("alerts_durable");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    // An iteration is an alert; whole batches are written, and their time is shared out.
    let per_alert =
        |elapsed: Duration, alerts: u64, batches: u64| elapsed.mul_f64(alerts as f64 / (batches * BATCH) as f64);
    group.bench_function("sqlite_bare", |b| {
        b.iter_custom(|alerts| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("bare.db");
            drop(SqliteAlertStore::open(&path).unwrap());
            let mut file = Connection::open(&path).unwrap();
            file.pragma_update(None, "journal_mode", "WAL").unwrap();
            file.pragma_update(None, "synchronous", "FULL").unwrap();
            // The same rows in the same tables: an alert, and its delivery.
            let body = serde_json::to_string(&alert(0)).unwrap();
            let batches = alerts.div_ceil(BATCH);
            let start = Instant::now();
            for batch in 0..batches {
                let transaction = file.transaction().unwrap();
                let mut insert = transaction.prepare_cached(ALERT).unwrap();
                let mut delivery = transaction.prepare_cached(DELIVERY).unwrap();
                for key in batch * BATCH..(batch + 1) * BATCH {
                    let (agent, key) = (format!("agent-{key:07}"), format!("slo/answers/agent-{key:07}"));
                    let id = insert.insert(params![1_790_000_000_i64, 3, agent, "answers", key, body]).unwrap();
                    delivery.execute(params![id, "count", 2, 1, 1, 1_790_000_000_i64]).unwrap();
                }
                drop((insert, delivery));
                transaction.commit().unwrap();
            }
            per_alert(start.elapsed(), alerts, batches)
        });
    });
    // Written with its delivery, delivered, and the result of that written too.
    group.bench_function("send_all", |b| {
        b.iter_custom(|alerts| {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(SqliteAlertStore::open(folder.path().join("alerts.db")).unwrap());
            let (manager, _) = manager(AlertOptions { store: Some(store), ..many() });
            let batches = alerts.div_ceil(BATCH);
            let mut batch: Vec<Alert> = (0..BATCH).map(alert).collect();
            let start = Instant::now();
            for number in 0..batches {
                for (alert, key) in batch.iter_mut().zip(number * BATCH..) {
                    rekey(alert, key);
                }
                manager.send_all(batch.clone());
            }
            assert!(manager.flush(Duration::from_secs(60)));
            per_alert(start.elapsed(), alerts, batches)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = sending, durable
}
criterion_main!(benches);
