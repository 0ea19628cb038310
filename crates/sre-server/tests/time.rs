//! The time of the service: clocks of senders that are wrong, backlogs, and restarts that change no count.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalEntry, JournalStore, ManualClock, StateReader, Timestamp};
use common::{Service, config};
use http::StatusCode;
use serde_json::{Value, json};
use sre_server::{Config, Server, ServerLimits};

/// Longer ago than any time-out.
const THREE_HOURS: Duration = Duration::from_secs(3 * 3_600);

/// A service with a clock that the test sets.
struct Timed {
    service: Service,
    clock: Arc<ManualClock>,
}

impl Timed {
    /// Starts a service whose tasks time out after four minutes.
    async fn start(folder: &Path) -> Self {
        Self::start_at(folder, Timestamp::from_secs(1_795_500_000)).await
    }

    async fn start_at(folder: &Path, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let server_limits = ServerLimits { task_timeout: Duration::from_secs(240), ..ServerLimits::default() };
        let config = Config { server_limits, ..config(folder) };
        let service = Service::of(Server::start_with_clock(config, clock.clone()).await.unwrap());
        Self { service, clock }
    }

    /// Returns a service that continues from what a `kill -9` would leave at this moment.
    async fn killed(&self, folder: &Path, to: &Path) -> Self {
        copy_data(folder, to);
        Self::start_at(to, self.clock.now()).await
    }

    fn ago(&self, age: Duration) -> Timestamp {
        self.clock.now().saturating_sub(age)
    }

    async fn send_spans(&self, spans: &[Value]) {
        let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]});
        let body = json!({"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": spans}]}]}).to_string();
        let response = self.service.post("/v1/traces", "application/json", body).await;
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
    }

    /// Waits until the totals have these numbers of tasks: good, failed and, of the failed, incomplete.
    async fn until(&self, counts: [u64; 3]) {
        let is_met = |slos: &Value| {
            let found = ["succeeded", "failed", "incomplete"].map(|name| slos["totals"][name].as_u64().unwrap());
            found == counts
        };
        self.service.until("/v1/slos", is_met).await;
    }

    /// Waits until the service has processed everything up to the present second.
    async fn settle(&self) {
        // Two ticks of the service, of a second each.
        tokio::time::sleep(Duration::from_millis(2_200)).await;
    }
}

fn copy_data(folder: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("data")).unwrap();
    for file in std::fs::read_dir(folder.join("data")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join("data").join(file.file_name())).unwrap();
    }
}

fn event(kind: &str, time: Timestamp, agent: &str, task: u32) -> String {
    let success = if kind == "task_finished" { ",\"success\":true" } else { "" };
    format!("{{\"event\":\"{kind}\",\"time\":\"{time}\",\"agent\":\"{agent}\",\"task\":\"{task}\"{success}}}\n")
}

/// Returns a span of five seconds: the agent `support` or, with a parent, a tool call.
fn span(trace: u64, id: u64, parent: Option<u64>, start: Timestamp) -> Value {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let end = start.saturating_add(Duration::from_secs(5));
    let mut span = json!({
        "traceId": format!("{:032x}", trace + 1), "spanId": format!("{id:016x}"),
        "startTimeUnixNano": start.as_nanos().to_string(), "endTimeUnixNano": end.as_nanos().to_string(),
    });
    match parent {
        Some(parent) => {
            span["parentSpanId"] = format!("{parent:016x}").into();
            span["name"] = "execute_tool search".into();
            span["attributes"] =
                json!([attribute("gen_ai.operation.name", "execute_tool"), attribute("gen_ai.tool.name", "search")]);
        }
        None => {
            span["name"] = "invoke_agent support".into();
            span["attributes"] =
                json!([attribute("gen_ai.operation.name", "invoke_agent"), attribute("gen_ai.agent.name", "support")]);
        }
    }
    span
}

#[tokio::test]
async fn a_clock_that_is_ahead_ends_no_task_of_another_agent() {
    let folder = tempfile::tempdir().unwrap();
    let timed = Timed::start(folder.path()).await;
    let now = timed.clock.now();
    let of_tasks = |kind| (0..10).map(|task| event(kind, now, "healthy", task)).collect::<String>();
    timed.service.events(&of_tasks("task_started")).await;
    let ahead = now.saturating_add(Duration::from_secs(295));
    timed.service.events(&event("heartbeat", ahead, "ahead", 0)).await;
    timed.clock.advance(Duration::from_secs(3));
    timed.settle().await;
    timed.service.events(&of_tasks("task_finished")).await;
    timed.until([10, 0, 0]).await;
}

#[tokio::test]
async fn a_task_times_out_by_the_clock_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let timed = Timed::start(folder.path()).await;
    let old = timed.ago(THREE_HOURS);
    timed.service.events(&event("task_started", old, "a", 1)).await;
    timed.clock.advance(Duration::from_secs(239));
    timed.settle().await;
    timed.until([0, 0, 0]).await;
    timed.clock.advance(Duration::from_secs(2));
    timed.until([0, 1, 1]).await;
    // It counts when it should have ended, by its own time.
    let agents = timed.service.get("/v1/agents").await;
    let end = old.saturating_add(Duration::from_secs(240));
    assert_eq!(agents["agents"][0]["last_event"], end.to_string());
}

#[tokio::test]
async fn a_backlog_of_traces_counts_as_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let timed = Timed::start(folder.path()).await;
    let (old, now) = (timed.ago(THREE_HOURS), timed.ago(Duration::from_secs(10)));
    for trace in 0..20 {
        timed.send_spans(&[span(trace, 2, Some(1), old)]).await;
        timed.send_spans(&[span(1_000 + trace, 1, None, now)]).await;
        timed.clock.advance(Duration::from_secs(1));
        timed.send_spans(&[span(trace, 1, None, old)]).await;
    }
    timed.clock.advance(Duration::from_secs(4));
    timed.until([40, 0, 0]).await;
    let agents = timed.service.get("/v1/agents").await;
    let names: Vec<&Value> = agents["agents"].as_array().unwrap().iter().map(|agent| &agent["agent"]).collect();
    assert_eq!(names, ["support"]);
    assert_eq!(agents["agents"][0]["tool_calls"], 20);
}

#[tokio::test]
async fn a_kill_does_not_revive_tasks_that_timed_out() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let timed = Timed::start(folder.path()).await;
    let old = timed.ago(THREE_HOURS);
    let of_tasks = |kind| (0..10).map(|task| event(kind, old, "late", task)).collect::<String>();
    timed.service.events(&of_tasks("task_started")).await;
    // Enough for the time-out, and not for a snapshot.
    timed.clock.advance(Duration::from_secs(250));
    timed.until([0, 10, 10]).await;
    timed.service.events(&of_tasks("task_finished")).await;
    timed.until([0, 10, 10]).await;
    timed.killed(folder.path(), copy.path()).await.until([0, 10, 10]).await;
}

#[tokio::test]
async fn a_trace_that_is_sent_again_counts_once_with_and_without_a_kill() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let timed = Timed::start(folder.path()).await;
    let start = timed.ago(Duration::from_secs(10));
    let spans = [span(1, 1, None, start), span(1, 2, Some(1), start)];
    timed.send_spans(&spans).await;
    timed.clock.advance(Duration::from_secs(4));
    timed.until([1, 0, 0]).await;
    // In another request, and another order.
    timed.send_spans(&[spans[1].clone(), spans[0].clone(), span(2, 1, None, start)]).await;
    timed.clock.advance(Duration::from_secs(4));
    timed.until([2, 0, 0]).await;
    let killed = timed.killed(folder.path(), copy.path()).await;
    for timed in [&timed, &killed] {
        timed.clock.advance(Duration::from_secs(300));
        timed.settle().await;
        timed.until([2, 0, 0]).await;
        assert_eq!(timed.service.totals().await["tool_calls"], 1);
    }
    let metrics = timed.service.get_raw("/metrics").await;
    let text = std::str::from_utf8(metrics.body()).unwrap();
    let repeated = "sre_adapter_duplicate_records_total{adapter=\"otlp\"} 2\n";
    assert!(text.contains(repeated), "{text}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_neither_time_nor_time_outs() {
    let folder = tempfile::tempdir().unwrap();
    let timed = Timed::start(folder.path()).await;
    timed.service.events(&event("task_started", timed.clock.now(), "a", 1)).await;
    // By a minute: the service's time stands still until the clock is there again.
    let before = timed.clock.now();
    timed.clock.set(timed.ago(Duration::from_secs(60)));
    timed.service.events(&event("task_finished", before, "a", 1)).await;
    timed.until([1, 0, 0]).await;
    // By a day: the service follows.
    timed.clock.set(timed.ago(Duration::from_secs(86_400)));
    timed.settle().await;
    timed.service.events(&event("task_started", timed.clock.now(), "a", 2)).await;
    timed.clock.advance(Duration::from_secs(250));
    timed.until([1, 1, 1]).await;
}

#[tokio::test]
async fn the_time_that_passes_without_requests_is_saved() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let timed = Timed::start(folder.path()).await;
    timed.service.events(&event("heartbeat", timed.clock.now(), "a", 1)).await;
    timed.clock.advance(Duration::from_secs(301));
    let now = timed.clock.now();
    // A snapshot is written at most once a second.
    timed.settle().await;
    copy_data(folder.path(), copy.path());
    let journal = SqliteJournal::open(copy.path().join("data").join(SqliteJournal::DEFAULT_FILE), 1 << 30).unwrap();
    let (covered, state) = journal.snapshot().unwrap().unwrap();
    let mut state = StateReader::new(&state);
    let _: u32 = state.take().unwrap();
    let times = state.sections().map(Result::unwrap).find(|(name, _)| *name == "time");
    let (_, mut time) = times.unwrap();
    assert_eq!((covered, time.take::<(Timestamp, Timestamp)>().unwrap()), (2, (now, now)));
}

/// Lets every snapshot fail in a new data folder, and no entry.
fn break_snapshots(folder: &Path) {
    std::fs::create_dir(folder.join("data")).unwrap();
    let path = folder.join("data").join(SqliteJournal::DEFAULT_FILE);
    drop(SqliteJournal::open(&path, 1 << 30).unwrap());
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON snapshot BEGIN SELECT RAISE(ABORT, 'broken'); END";
    rusqlite::Connection::open(path).unwrap().execute_batch(trigger).unwrap();
}

#[tokio::test]
async fn jumps_of_time_are_in_the_journal_and_reloads_refused_while_snapshots_fail() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    break_snapshots(folder.path());
    let timed = Timed::start(folder.path()).await;
    let start = timed.clock.now().as_secs();
    timed.service.events(&event("task_started", timed.clock.now(), "a", 1)).await;
    timed.clock.advance(Duration::from_secs(5_000));
    timed.until([0, 1, 1]).await;
    timed.clock.set(timed.ago(Duration::from_secs(4_000)));
    timed.service.events(&event("heartbeat", timed.clock.now(), "a", 1)).await;
    let error = timed.service.server.reload().await.unwrap_err();
    assert!(error.contains("the state cannot be saved"), "{error}");
    copy_data(folder.path(), copy.path());
    let journal = SqliteJournal::open(copy.path().join("data").join(SqliteJournal::DEFAULT_FILE), 1 << 30).unwrap();
    assert_eq!(journal.snapshot().unwrap(), None);
    let mut times = Vec::new();
    let mut each = |_, entry: JournalEntry<'_>| {
        times.extend((entry.format == "time").then_some(entry.received.as_secs() - start));
        true
    };
    journal.replay(0, &mut each).unwrap();
    // Between the jumps, time passes at half its pace.
    assert!(
        matches!(times[..], [0, 0..60, 5_000, 5_000..5_060, 1_000]),
        "{times:?}: expected the first time, and those before and after each jump"
    );
}
