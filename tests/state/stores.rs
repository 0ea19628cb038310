//! The SQLite stores of earlier versions: the history of alerts, the ledger of costs, and the spool with signals and events, and with
//! readings of metrics and snapshots.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::{AgentEvent, Runtime, Signal, Timestamp};
use async_trait::async_trait;
use pollster::block_on;
use serde_json::{Value, json};
use sre_alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig, Silence};
use sre_core::{
    Alert, AlertQuery, AlertStore, Collect, CostAlert, CostAlertKind, CostScope, Exemplar, ExponentialHistogram,
    ExportBatch, ExportError, ExportReport, Exporter, HttpClient, HttpError, LedgerStore, ManualClock, Metric,
    MetricUnit, NoHttp, Severity, Snapshot, Spool, Usd, Wants,
};
use sre_cost::{CostGuard, Limits, Spend};
use sre_http::{Outbox, OutboxOptions};
use sre_store_sqlite::{SqliteAlertStore, SqliteLedger, SqliteSpool};

use super::{Everything, PATIENCE, START, before, compare, versions};

const LIMITS: &str = "
per_task: 10
per_agent_daily: 10
anomaly_detection: false
teams: {search: {daily: 20}}
models: {small: {daily: 20, per_agent_daily: 5}}
";

fn clock(seconds: i64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(START + seconds)))
}

/// Stores the database that `fill` fills, without its journal.
fn store(file: &Path, fill: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original.db");
    fill(&original);
    vacuum(&original, file);
}

fn vacuum(original: &Path, file: &Path) {
    rusqlite::Connection::open(original).unwrap().execute("VACUUM INTO ?", [file.to_str()]).unwrap();
}

/// Passes a copy of each stored file to `outcome`, and compares the result.
fn check(name: &str, fill: impl FnOnce(&Path), outcome: impl Fn(&Path) -> Value) {
    for file in versions(&format!("{name}.db"), |own| store(own, fill)) {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        std::fs::copy(&file, &copy).unwrap();
        compare(&file, "json", &outcome(&copy));
    }
}

/// A manager of the history in a file, with what its channel has received.
fn manager(file: &Path, clock: &Arc<ManualClock>) -> (AlertManager, Arc<Mutex<Vec<String>>>) {
    let store = Arc::new(SqliteAlertStore::open(file).unwrap());
    let options = AlertOptions { clock: clock.clone(), store: Some(store), ..AlertOptions::default() };
    let manager = AlertManager::without_thread(options);
    let delivered: Arc<Mutex<Vec<String>>> = Arc::default();
    let received = delivered.clone();
    let channel = CallbackChannel::new("ops", move |alert| {
        received.lock().unwrap().push(format!("{} {}", alert.dedup_key, alert.severity));
    });
    manager.add_channel(channel, ChannelConfig::default()).unwrap();
    (manager, delivered)
}

fn alert(key: &str, agent: &str, severity: Severity) -> Alert {
    let (dedup_key, agent_id, slo_name) = (key.into(), agent.into(), "answers".into());
    let labels = [("team".to_owned(), "search".to_owned())].into();
    Alert { severity, dedup_key, agent_id, slo_name, labels, ..Alert::new(format!("{key} burns"), "10 of 20 bad") }
}

/// An acknowledged incident, one that has ended, a silenced one, and one that was not delivered.
fn fill_history(file: &Path) {
    let (manager, _) = manager(file, &clock(0));
    let now = Timestamp::from_secs(START);
    let ends_at = now.saturating_add(Duration::from_secs(600));
    let matchers = vec!["agent=quiet".parse().unwrap()];
    let silence = Silence { matchers, starts_at: now, ends_at, author: "ann".into(), comment: "known".into() };
    manager.silence(silence).unwrap();
    manager.send(&alert("acknowledged", "support", Severity::Critical));
    manager.send(&alert("ended", "support", Severity::Warning));
    manager.send(&alert("silenced", "quiet", Severity::Warning));
    block_on(manager.deliver_due());
    manager.acknowledge("acknowledged", "ann").unwrap();
    manager.send(&alert("ended", "support", Severity::Resolved));
    block_on(manager.deliver_due());
    manager.send(&alert("undelivered", "support", Severity::Critical));
}

fn history_outcome(file: &Path) -> Value {
    let store = SqliteAlertStore::open(file).unwrap();
    let records = store.query(&AlertQuery::default()).unwrap();
    let open: Vec<String> = store.open_incidents().unwrap().into_iter().map(|record| record.alert.dedup_key).collect();
    let clock = clock(60);
    let (manager, delivered) = manager(file, &clock);
    let silences: Vec<Silence> = manager.silences().into_iter().map(|(_, silence)| silence).collect();
    let deliver = || {
        block_on(manager.deliver_due());
        std::mem::take(&mut *delivered.lock().unwrap())
    };
    let adopted = deliver();
    let send = |key, severity| format!("{:?}", manager.send(&alert(key, "support", severity)).verdict);
    let repeated = send("acknowledged", Severity::Critical);
    let ended_again = send("ended", Severity::Resolved);
    clock.advance(Duration::from_secs(600));
    json!({"records": records, "open": open, "silences": silences, "adopted": adopted, "repeated": repeated,
        "ended_again": ended_again, "after_the_silence": deliver()})
}

#[test]
fn the_history_of_alerts_of_every_version_is_read() {
    check("alerts", fill_history, history_outcome);
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn guard(file: &Path, clock: &Arc<ManualClock>) -> CostGuard {
    let limits = Limits::parse(LIMITS, "limits").unwrap();
    let store = Arc::new(SqliteLedger::open(file).unwrap());
    CostGuard::with_limits(limits).unwrap().with_clock(clock.clone()).with_store(store).unwrap()
}

/// Spending of an agent, a team and a model, and reservations of processes that died.
fn fill_ledger(file: &Path) {
    let guard = guard(file, &clock(0));
    let spend = |team, model, amount| Spend {
        agent: "a",
        team,
        model,
        task: Some("t"),
        amount: usd(amount),
        ..Spend::default()
    };
    guard.record(&spend(Some("search"), None, "1.5")).unwrap();
    guard.record(&spend(None, Some("small"), "0.25")).unwrap();
    guard.check_and_charge("b", usd("1")).unwrap();
    std::mem::forget(guard.reserve_for(&spend(Some("search"), None, "0.5")).unwrap());
    std::mem::forget(guard.reserve_for(&spend(None, Some("small"), "0.125")).unwrap());
    drop(guard.reserve("b", usd("0.5")).unwrap());
}

fn ledger_outcome(file: &Path) -> Value {
    let clock = clock(60);
    let guard = guard(file, &clock);
    let budgets = || [guard.budget("a"), guard.budget("b")];
    let (restored, org) = (json!(budgets()), guard.org_spent_month());
    let (day, month) = ("2026-11-24T00:00:00Z".parse().unwrap(), "2026-11-01T00:00:00Z".parse().unwrap());
    let totals = block_on(SqliteLedger::open(file).unwrap().totals(day, month)).unwrap();
    let mut reservations = totals.reservations;
    reservations.iter_mut().for_each(|reservation| reservation.id = 0);
    clock.advance(Duration::from_secs(15 * 60));
    json!({"budgets": restored, "org": org, "agents": totals.agents, "models": totals.models, "shared": totals.shared,
        "reservations": reservations, "expired": budgets()})
}

#[test]
fn the_ledger_of_every_version_is_read() {
    check("ledger", fill_ledger, ledger_outcome);
}

/// An exporter that keeps events, or never answers.
#[derive(Debug, Default)]
struct Backend {
    is_away: bool,
    received: Mutex<Vec<Arc<AgentEvent>>>,
}

#[async_trait]
impl Exporter for Backend {
    fn name(&self) -> &str {
        "backend"
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS
    }

    async fn export(&self, batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        if self.is_away {
            std::future::pending::<()>().await;
        }
        self.received.lock().unwrap().extend_from_slice(batch.events);
        Ok(ExportReport::accepted(batch.len()))
    }
}

fn outbox(backend: &Arc<Backend>, spool: &Arc<dyn Spool>) -> Outbox {
    let options = OutboxOptions { clock: clock(60), spool: Some(spool.clone()), ..OutboxOptions::default() };
    Outbox::start(backend.clone(), Arc::new(NoHttp), options).unwrap()
}

fn one_offs() -> [Signal; 3] {
    let at = Timestamp::from_secs(START);
    [
        CostAlertKind::Threshold { threshold: 0.75 },
        CostAlertKind::Anomaly { cost_usd: usd("3"), score: Some(7.5), median_usd: usd("0.2") },
        CostAlertKind::Runaway { minute_usd: usd("4"), usual_usd: usd("0.3") },
    ]
    .map(|kind| CostAlert::new(at, CostScope::Agent("a".into()), usd("7.5"), usd("10"), kind).into_signal())
}

/// One-off signals of a handler that is stuck, and events of an exporter whose backend is unavailable.
fn fill_spool(file: &Path) {
    let spool: Arc<dyn Spool> = Arc::new(SqliteSpool::open(file).unwrap());
    let backend = Arc::new(Backend { is_away: true, ..Backend::default() });
    let outbox = outbox(&backend, &spool);
    for event in before() {
        outbox.push(Arc::new(AgentEvent::from_json(event.to_string().as_bytes()).unwrap()));
    }
    assert_eq!(outbox.shutdown(Duration::ZERO), 0);

    let (entered, has_entered) = channel();
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let handler = move |_: &Signal| {
        let _ = entered.send(());
        let _ = gate.lock().unwrap().recv();
    };
    let runtime = Runtime::builder().handle("stuck", Arc::new(handler)).spool(spool).build().unwrap();
    let fill = |number| runtime.signal(Signal::one_off("test", "fill", Severity::Info, Timestamp::from_secs(number)));
    fill(0);
    has_entered.recv_timeout(PATIENCE).unwrap();
    // As many as fit into memory.
    (1..=10_000).for_each(fill);
    one_offs().into_iter().for_each(|signal| runtime.signal(signal));
    assert_eq!(runtime.handler_stats()[0].spooled, 3);
    let kept = file.with_extension("kept");
    vacuum(file, &kept);
    drop(open);
    runtime.shutdown();
    std::fs::rename(kept, file).unwrap();
}

fn spool_outcome(file: &Path) -> Value {
    let spool: Arc<dyn Spool> = Arc::new(SqliteSpool::open(file).unwrap());
    let backend = Arc::new(Backend::default());
    let outbox = outbox(&backend, &spool);
    assert!(outbox.flush(PATIENCE));
    let signals: Arc<Mutex<Vec<Signal>>> = Arc::default();
    let handled = signals.clone();
    let handler = move |signal: &Signal| handled.lock().unwrap().push(signal.clone());
    let runtime = Runtime::builder().handle("stuck", Arc::new(handler)).spool(spool).build().unwrap();
    assert!(runtime.flush(PATIENCE));
    json!({"events": *backend.received.lock().unwrap(), "signals": *signals.lock().unwrap()})
}

#[test]
fn the_spool_of_every_version_is_read() {
    check("spool", fill_spool, spool_outcome);
}

/// An exporter that keeps readings of metrics and snapshots, or whose backend is unavailable.
#[derive(Debug, Default)]
struct StateBackend {
    is_away: bool,
    received: Mutex<Vec<Value>>,
}

#[async_trait]
impl Exporter for StateBackend {
    fn name(&self) -> &str {
        "backend"
    }

    fn wants(&self) -> Wants {
        Wants::METRICS.and_snapshots()
    }

    async fn export(&self, batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        if self.is_away {
            return Err(HttpError::TimedOut { host: "backend".to_owned(), seconds: 10.0 }.into());
        }
        let reading = json!({"at": batch.at, "metrics": batch.metrics, "snapshots": batch.snapshots});
        self.received.lock().unwrap().push(reading);
        Ok(ExportReport::accepted(batch.len()))
    }
}

/// A metric and a snapshot of each kind.
struct EachKind(Vec<Snapshot>);

impl EachKind {
    fn new() -> Self {
        let runtime = Everything::filled().runtime;
        let mut snapshots = runtime.snapshots(Timestamp::from_secs(START + 60));
        let (manager, _) = manager(&tempfile::tempdir().unwrap().path().join("alerts.db"), &clock(0));
        snapshots.extend(manager.snapshots(Timestamp::from_secs(START + 60)));
        let mut kinds = BTreeSet::new();
        snapshots.retain(|snapshot| kinds.insert(json!(snapshot)["snapshot"].to_string()));
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        Self(snapshots)
    }
}

impl Collect for EachKind {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.clone()
    }

    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let mut latency = ExponentialHistogram::new(3);
        [0.0, 0.25, 2.0].into_iter().for_each(|value| latency.record(value));
        let line = br#"{"event":"task_finished","time":1795500000,"agent":"a","task":"t","success":false}"#;
        let exemplar = Exemplar::of(&AgentEvent::from_json(line).unwrap());
        emit(
            Metric::gauge("sre.budget", 0.5)
                .with_unit(MetricUnit::Ratio)
                .with_label("agent", "a")
                .with_help("What is left."),
        );
        emit(Metric::counter("sre.events", 3.0).with_exemplar(exemplar));
        emit(Metric::histogram("sre.latency", latency).with_unit(MetricUnit::Seconds));
        emit(Metric::gauge("sre.burn_rate", f64::INFINITY));
    }
}

fn state_options(seconds: i64, spool: SqliteSpool) -> (Arc<ManualClock>, OutboxOptions) {
    let clock = clock(seconds);
    let options = OutboxOptions { clock: clock.clone(), spool: Some(Arc::new(spool)), ..OutboxOptions::default() };
    (clock, options)
}

/// Two readings of an exporter whose backend is unavailable.
fn fill_readings(file: &Path) {
    let (clock, options) = state_options(60, SqliteSpool::open(file).unwrap());
    let options = OutboxOptions { collect: vec![Arc::new(EachKind::new())], ..options };
    let backend = Arc::new(StateBackend { is_away: true, ..StateBackend::default() });
    let outbox = Outbox::without_thread(backend, Arc::new(NoHttp), options).unwrap();
    for _ in 0..2 {
        block_on(outbox.flush_due());
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(outbox.stats().state_queue_length, 20);
}

fn readings_outcome(file: &Path) -> Value {
    let (_, options) = state_options(180, SqliteSpool::open(file).unwrap());
    let backend = Arc::new(StateBackend::default());
    let outbox = Outbox::without_thread(backend.clone(), Arc::new(NoHttp), options).unwrap();
    block_on(outbox.flush_due());
    let stats = outbox.stats().state;
    json!({"restored": stats.restored, "sent": stats.sent, "readings": *backend.received.lock().unwrap()})
}

#[test]
fn the_readings_in_the_spool_of_every_version_are_read() {
    check("readings", fill_readings, readings_outcome);
}
