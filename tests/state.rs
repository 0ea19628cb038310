//! State that an earlier version has stored is read by this one.
//!
//! `tests/state/` holds, for each version, what it stored (`.bin`: engines and adapters; `.db`: a service's journal;
//! `.alerts.db`, `.ledger.db`, `.spool.db` and `.readings.db`: the other SQLite stores) and the state restored from it (`.json`).
//! `UPDATE_STATE=1 cargo test -p sre-tests --test state` stores the files of this version. For a new kind of file, pass the name of
//! its test (such as `the_readings`), because existing files are not replaced. The expected state depends on the settings and on
//! [`after`], which therefore only ever get more objectives, limits and the like; [`before`] may change.

#[path = "state/stores.rs"]
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::adapter::Adapter;
use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::Limits;
use agent_sre::slo::SliRegistry;
use agent_sre::trace::TailSamplerOptions;
use agent_sre::{
    AgentEvent, AgentTotals, Collect, EngineSettings, Format, ManualClock, RunLimits, Runtime, Signal, StateReader,
    StateWriter, Timestamp,
};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use sre_core::{HttpClient, JournalEntry, JournalStore};
use sre_http::Client;
use sre_server::{Config, Server, ServerLimits};
use sre_store_sqlite::SqliteJournal;
use sre_testkit::recordings::folders;

const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
/// After every recording.
const START: i64 = 1_795_500_000;
/// A batch that counts once, although it is sent again after the restart.
const SENT_TWICE: &str = r#"{"event":"tool_call","time":1795500100,"agent":"worker","tool":"clock","success":true}"#;
/// Runs that the recordings leave open.
const OPEN_RUNS: u64 = 3;
/// Long enough for anything that waits for another thread.
const PATIENCE: Duration = Duration::from_secs(60);

const SLOS: &str = "
name: answers
target: 0.9
error_budget_policy: {exhaustion_action: freeze_deployments, min_events: 3}
indicators:
  - {type: task_success_rate, target: 0.9}
  - {type: tool_call_accuracy, target: 0.9}
  - {type: response_latency, target_ms: 500}
  - {type: cost_per_task, target_usd: 0.5}
  - {type: hallucination_rate, target: 0.1}
  - {type: policy_compliance, target: 0.9}
  - {type: delegation_chain_depth, max_depth: 2}
  - {type: calibration_delta, target: 0.1}
  - {type: time_to_first_token, target_ms: 100}
  - {type: steps_per_task, max_steps: 2}
  - {type: repeated_tool_calls, max_repeats: 1}
---
name: cheap
target: 0.5
good_when: {max_cost_usd: 0.5}
error_budget_policy: {min_events: 2}
calendar: {start: '2026-01-01', period: 1M}
---
name: slices
target: 0.99
good_when: {event: tool_call}
time_slices: {window: 1m, target: 0.5}
error_budget_policy: {min_events: 100}
";
const LIMITS: &str = "{per_task: 1000, per_agent_daily: 10, anomaly_detection: false, models: {large: {daily: 5}}}";
const BREAKERS: &str = "{failure_threshold: 2, recovery_timeout: 10m, models: {window: {calls: 4, minimum_calls: 2}}, cascade: {open_callers: true}}";

/// Half a recording for each format: its last runs are open.
fn recordings() -> BTreeMap<&'static str, Vec<u8>> {
    let half = |path: &str| {
        let text = std::fs::read_to_string(folder("recordings").join(path)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        (lines[..lines.len().div_ceil(2)].join("\n") + "\n").into_bytes()
    };
    let formats = folders(&folder("recordings")).into_iter();
    let mut recordings: BTreeMap<_, _> =
        formats.map(|(name, format)| (format, half(&format!("{name}/task_failure.jsonl")))).collect();
    recordings.insert("sre", lines(&before()));
    recordings
}

/// Everything that an engine keeps: failing callers and tools, a spender, and tasks that are open.
fn before() -> Vec<Value> {
    let mut events = vec![
        json!({"event": "handoff", "from": "boss", "to": "worker", "depth": 3, "agent": "boss", "task": "1"}),
        json!({"event": "policy_check", "policy": "p", "compliant": false, "agent": "worker"}),
        json!({"event": "evaluation", "metric": "hallucination", "passed": false, "agent": "worker"}),
        json!({"event": "message", "sender": "boss", "agent": "boss"}),
        json!({"event": "heartbeat", "agent": "boss"}),
        json!({"event": "step_finished", "name": "plan", "success": true, "agent": "worker", "task": "open"}),
        json!({"event": "moon_landing", "agent": "boss"}),
    ];
    for number in 0..8 {
        let task = format!("t{number}");
        events.extend([
            json!({"event": "task_started", "agent": "worker", "task": task}),
            json!({"event": "llm_call", "agent": "worker", "task": task, "model": "small", "input_tokens": 100,
                "output_tokens": 10, "cost_usd": "0.75", "success": number % 2 == 0, "duration_ms": 900, "first_token_ms": 200}),
            json!({"event": "tool_call", "agent": "worker", "task": task, "tool": "search", "arguments_hash": "a",
                "success": number < 2, "correct": number < 5, "duration_ms": 20}),
            json!({"event": "task_finished", "agent": "worker", "task": task, "success": number < 2, "duration_ms": 950.5,
                "attributes": {"confidence": 0.8}}),
            json!({"event": "task_finished", "agent": "boss", "task": task, "success": number < 3, "duration_ms": 50}),
        ]);
    }
    events.extend([
        json!({"event": "llm_call", "agent": "spender", "task": "t", "model": "large", "cost_usd": "9.9", "success": true}),
        json!({"event": "llm_call", "agent": "saver", "task": "t", "model": "small", "cost_usd": "8.6", "success": true}),
        json!({"event": "task_started", "agent": "worker", "task": "open", "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331", "name": "an open task"}),
        json!({"event": "task_started", "agent": "worker", "task": "lost"}),
        json!({"event": "llm_call", "agent": "worker", "task": "open", "model": "small", "cost_usd": "0.25", "success": true}),
        json!({"event": "tool_call", "agent": "worker", "task": "open", "tool": "search", "arguments_hash": "a", "success": true}),
    ]);
    at(START, events)
}

/// What comes after the restart: it ends what was open, and shows what was kept of it.
fn after() -> Vec<Value> {
    let events = vec![
        json!({"event": "tool_call", "agent": "worker", "task": "open", "tool": "search", "arguments_hash": "a", "success": true}),
        json!({"event": "task_finished", "agent": "worker", "task": "open", "success": true, "duration_ms": 100}),
        json!({"event": "llm_call", "agent": "saver", "task": "t", "model": "small", "cost_usd": "0.1", "success": true}),
    ];
    at(START + 62, events)
}

fn at(start: i64, mut events: Vec<Value>) -> Vec<Value> {
    (start..).zip(&mut events).for_each(|(time, event)| event["time"] = time.into());
    events
}

fn lines(events: &[Value]) -> Vec<u8> {
    events.iter().flat_map(|event| format!("{event}\n").into_bytes()).collect()
}

/// A runtime with every engine, and an adapter for every format.
struct Everything {
    runtime: Runtime,
    adapters: BTreeMap<&'static str, Box<dyn Adapter>>,
    signals: Arc<Mutex<Vec<Signal>>>,
}

impl Everything {
    fn new() -> Self {
        let settings = EngineSettings {
            clock: Arc::new(ManualClock::new(Timestamp::from_secs(START + 60))),
            slos: agent_sre::slo::parse(SLOS, "slos", &SliRegistry::default()).unwrap(),
            limits: Some(Limits::parse(LIMITS, "limits").unwrap()),
            breakers: Some(DetectorConfig::parse(BREAKERS, "breakers").unwrap()),
            traces: Some(TailSamplerOptions::default()),
            ..EngineSettings::default()
        };
        let signals: Arc<Mutex<Vec<Signal>>> = Arc::default();
        let tap = signals.clone();
        let tap = move |signal| tap.lock().unwrap().push(signal);
        let runtime = Runtime::builder().engines(&settings).unwrap().tap(Arc::new(tap)).build().unwrap();
        let adapter = |format: Format| (format.as_str(), format.adapter(RunLimits::default()));
        Self { runtime, adapters: Format::all().map(adapter).collect(), signals }
    }

    /// Everything after the recordings.
    fn filled() -> Self {
        let mut all = Self::new();
        for (format, lines) in recordings() {
            all.ingest(format, &lines);
        }
        all.evaluate(START + 60);
        all
    }

    fn stored() -> Vec<u8> {
        let all = Self::filled();
        let mut state = StateWriter::default();
        for (format, adapter) in &all.adapters {
            state.section(format, |state| adapter.save(state));
        }
        all.runtime.save(&mut state);
        state.finish().unwrap()
    }

    fn restored(state: &[u8]) -> Self {
        let mut all = Self::new();
        for section in StateReader::new(state).sections() {
            let (name, mut state) = section.unwrap();
            let known = match all.adapters.get_mut(name) {
                Some(adapter) => adapter.restore(&mut state).map(|()| true),
                None => all.runtime.restore(name, &mut state),
            };
            assert!(known.unwrap_or_else(|error| panic!("{name}: {error}")), "{name}: found no such part");
        }
        all
    }

    fn ingest(&mut self, format: &str, lines: &[u8]) {
        let runtime = &self.runtime;
        let adapter = self.adapters.get_mut(format).unwrap_or_else(|| panic!("{format}: a format of this build"));
        let report = adapter.ingest_lines(lines, &Default::default(), &mut |event| runtime.record(event));
        assert!(report.accepted > 0 && report.rejected == 0, "{format}: {report:?}");
    }

    fn evaluate(&self, second: i64) {
        self.runtime.evaluate(Timestamp::from_secs(second));
        assert!(self.runtime.flush(PATIENCE));
    }

    /// What comes of the state: signals that still hold, snapshots after more events, and the runs that were open.
    fn outcome(mut self) -> Value {
        self.evaluate(START + 61);
        let mut signals = std::mem::take(&mut *self.signals.lock().unwrap());
        signals.sort_by_cached_key(|signal| (signal.key.clone(), json!(signal).to_string()));
        self.ingest("sre", &lines(&after()));
        self.evaluate(START + 65);
        let totals = self.runtime.get::<AgentTotals>().unwrap();
        let (agents, models) = (totals.agents(), totals.models());
        let mut snapshots: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for snapshot in self.runtime.snapshots(Timestamp::from_secs(START + 65)) {
            let snapshot = json!(snapshot);
            snapshots.entry(snapshot["snapshot"].as_str().unwrap().to_owned()).or_default().push(snapshot);
        }
        let adapters: BTreeMap<_, _> = self
            .adapters
            .iter_mut()
            .map(|(format, adapter)| {
                let stats = adapter.stats();
                let mut open: Vec<AgentEvent> = Vec::new();
                adapter.finish(&mut |event| open.push(event));
                (*format, json!({"stats": stats, "open": open}))
            })
            .collect();
        json!({"signals": signals, "agents": agents, "models": models, "snapshots": snapshots, "adapters": adapters})
    }
}

/// Whether `found` holds everything that is expected. A later version may add fields, and objects to lists.
fn assert_holds(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            // Texts may be worded otherwise.
            for (name, expected) in expected.iter().filter(|(name, _)| *name != "message") {
                assert_holds(found.get(name).unwrap_or(&Value::Null), expected, &format!("{place}.{name}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) if expected.iter().any(Value::is_object) => {
            assert!(found.len() >= expected.len(), "{place}: found {} items, expected {}", found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_holds(found, expected, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_STATE").is_some_and(|value| value == "1")
}

/// The stored files of all versions with this ending; stores one of this version first where that is requested.
fn versions(ending: &str, store: impl FnOnce(&Path)) -> Vec<PathBuf> {
    let own = folder("state").join(format!("{VERSION}.{ending}"));
    if is_update() {
        let exists = own.exists();
        assert!(!exists, "{}: found a stored file, expected none: what a version has stored stays", own.display());
        store(&own);
    }
    let entries = std::fs::read_dir(folder("state")).unwrap().map(|entry| entry.unwrap().path());
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_suffix(ending).and_then(|rest| rest.strip_prefix('v')?.strip_suffix('.'));
        version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    };
    let files: BTreeSet<PathBuf> = entries.filter(is_version).collect();
    assert!(files.contains(&own), "{}: found no such file: store it with UPDATE_STATE=1", own.display());
    files.into_iter().collect()
}

/// Compares with the JSON beside a stored file, which is written together with it.
fn compare(file: &Path, extension: &str, found: &Value) {
    let expected = file.with_extension(extension);
    if is_update() && !expected.exists() {
        std::fs::write(&expected, format!("{found:#}\n")).unwrap();
    }
    // Both have been written and read: some numbers change in the last digit.
    let found: Value = serde_json::from_str(&found.to_string()).unwrap();
    let text = std::fs::read_to_string(&expected).unwrap();
    assert_holds(&found, &serde_json::from_str(&text).unwrap(), &expected.display().to_string());
}

#[test]
fn engines_and_adapters_read_the_state_of_every_version() {
    for file in versions("bin", |own| std::fs::write(own, Everything::stored()).unwrap()) {
        compare(&file, "engines.json", &Everything::restored(&std::fs::read(&file).unwrap()).outcome());
    }
}

#[test]
fn the_same_events_make_the_same_state() {
    assert!(Everything::stored() == Everything::stored());
}

/// A service with its data in `folder`, where runs time out after `task_timeout`.
async fn serve(folder: &Path, task_timeout: Duration) -> Server {
    let server_limits = ServerLimits { task_timeout, ..ServerLimits::default() };
    // Public prices change, and with them the costs.
    let prices = folder.join("prices.yaml");
    std::fs::write(&prices, "prices: []\n").unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let engine_files = BTreeMap::from([("prices", prices)]);
    let config = Config { listen, data: folder.into(), engine_files, server_limits, ..Config::default() };
    Server::start(config).await.unwrap()
}

async fn answer(server: &Server, method: &str, path: &str, body: Vec<u8>) -> Value {
    let client = Client::new(sre_http::Options::default()).unwrap();
    let request = Request::builder().method(method).uri(server.url() + path).header("idempotency-key", path);
    let response = client.send(request.body(Bytes::from(body)).unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{path}: {:?}", response.body());
    serde_json::from_slice(response.body()).unwrap()
}

/// Stores the journal of a service: a snapshot, and an entry that came after it.
async fn store_service(file: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), Duration::from_secs(600)).await;
    for (format, lines) in recordings() {
        answer(&server, "POST", &format!("/v1/events/{format}"), lines).await;
    }
    answer(&server, "POST", "/v1/events/sre", SENT_TWICE.into()).await;
    server.stop().await;
    let journal = folder.path().join(SqliteJournal::DEFAULT_FILE);
    let body = lines(&after());
    let entry = JournalEntry::new(Timestamp::from_secs(START + 120), "sre", None, &body);
    SqliteJournal::open(&journal, 1 << 30).unwrap().append(&[entry]).unwrap();
    rusqlite::Connection::open(journal).unwrap().execute("VACUUM INTO ?", [file.to_str()]).unwrap();
}

/// What a service of this version makes of a stored journal. Only what does not depend on the day is compared.
async fn service_outcome(file: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(file, folder.path().join(SqliteJournal::DEFAULT_FILE)).unwrap();
    // The open runs time out at once.
    let server = serve(folder.path(), Duration::from_millis(1)).await;
    let mut totals = Value::Null;
    tokio::time::timeout(PATIENCE, async {
        while totals["incomplete"].as_u64().unwrap_or_default() < OPEN_RUNS {
            totals = answer(&server, "GET", "/v1/slos", Vec::new()).await["totals"].take();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{}: found {totals}, expected {OPEN_RUNS} incomplete tasks", file.display()));
    let agents = answer(&server, "GET", "/v1/agents", Vec::new()).await;
    let again = answer(&server, "POST", "/v1/events/sre", SENT_TWICE.into()).await;
    server.stop().await;
    json!({"totals": totals, "agents": agents, "sent_again": again})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_reads_the_journal_of_every_version() {
    let runtime = tokio::runtime::Handle::current();
    let files = tokio::task::block_in_place(|| versions("db", |own| runtime.block_on(store_service(own))));
    for file in files {
        compare(&file, "service.json", &service_outcome(&file).await);
    }
}

#[test]
fn the_stored_state_holds_something_of_everything() {
    let stored = Everything::stored();
    let outcome = Everything::restored(&stored).outcome();
    for (format, adapter) in outcome["adapters"].as_object().unwrap() {
        assert!(!adapter["open"].as_array().unwrap().is_empty(), "{format} has no open run");
    }
    let kinds: Vec<&String> = outcome["snapshots"].as_object().unwrap().keys().collect();
    assert_eq!(kinds, ["breaker", "cascade", "costs", "slo", "totals"]);
    let signals = outcome["signals"].as_array().unwrap().iter();
    let sources: BTreeSet<&str> =
        signals.map(|signal| signal["key"].as_str().unwrap().split('/').next().unwrap()).collect();
    assert_eq!(sources, ["breaker", "cascade", "cost", "slo"].into());
}
