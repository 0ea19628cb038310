//! Real servers of backends, on loopback, and the recorded run that is exported to them.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use sre_adapter_langgraph::LangGraphAdapter;
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{Adapter, AgentEvent, Event, Exporter, HttpClient, ManualClock, SloSnapshot, Timestamp};
use sre_http::{Client, Options, Outbox, OutboxOptions, OutboxStats};
use sre_slo::{Slo, TaskSuccessRate};
use sre_testkit::outside;

/// The Python of a server, if `cargo xtask test --install` has installed it; otherwise lists `test` as skipped.
pub(crate) fn python(server: &str, check: &str, test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/servers/{server}/bin/python"));
    outside::interpreter_with(&path, &["-c", check], test).map(|_| path)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server and its workers, which end with the test, however that ends.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server, and waits until it answers at `url`.
    pub(crate) async fn start(mut command: Command, folder: &Path, url: &str) -> Self {
        let log = folder.join("log");
        let file = File::create(&log).unwrap();
        command.current_dir(folder).process_group(0).stdin(Stdio::null());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let mut server = Self { child, log };
        let (http, begun) = (client(), Instant::now());
        loop {
            let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
            if http.send(request).await.is_ok_and(|answer| answer.status().is_success()) {
                return server;
            }
            let is_running = server.child.try_wait().unwrap().is_none();
            assert!(is_running && begun.elapsed() < Duration::from_secs(180), "not ready: {}", server.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns what the server printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn client() -> Arc<dyn HttpClient> {
    Arc::new(Client::new(Options { timeout: Duration::from_secs(60), ..Options::default() }).unwrap())
}

/// Runs a script beside this file, which prints JSON.
pub(crate) fn run(python: &Path, script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// When the parts of the run are sent.
pub(crate) const TIMES: [Timestamp; 3] =
    [Timestamp::from_secs(1_795_402_940), Timestamp::from_secs(1_795_403_000), Timestamp::from_secs(1_795_403_060)];

/// Returns the first event alone, an evaluation of a trace of which nothing is known yet; what follows up to the middle of a task;
/// and the rest.
pub(crate) fn parts(events: &[AgentEvent]) -> [&[AgentEvent]; 3] {
    let (first, others) = events.split_at(1);
    let (before, after) = others.split_at(others.len() / 2);
    assert!(!matches!(before.last().unwrap().event, Event::TaskFinished(_)));
    [first, before, after]
}

/// Runs of LangGraph, recorded, with prices and with verdicts: an evaluation of each model call, a policy check of each task,
/// and an evaluation of the first task before anything else has happened in it.
pub(crate) fn recorded() -> Vec<AgentEvent> {
    let mut events = Vec::new();
    for name in ["task_failure", "tool_failure_recovered"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("recordings/langgraph/{name}.jsonl"));
        let mut adapter = LangGraphAdapter::default();
        for line in std::fs::read(path).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            adapter.ingest(line, &mut |event| events.push(event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event));
    }
    let mut with_verdicts = vec![verdict(&events[0], Evaluation::new("relevance", None, Some(0.25)))];
    for mut event in events {
        if let Event::LlmCall(call) = &mut event.event {
            call.cost_usd = Some("0.0125".parse().unwrap());
            let mut judged = Evaluation::new("tone", Some(false), Some(0.75));
            judged.confidence = Some(0.5);
            let mut evaluation = verdict(&event, judged);
            evaluation.parent_span_id = event.span_id;
            with_verdicts.extend([event, evaluation]);
            continue;
        }
        if let Event::TaskFinished(_) = event.event {
            with_verdicts.push(verdict(&event, PolicyCheck::new("pii", true)));
        }
        with_verdicts.push(event);
    }
    with_verdicts
}

/// Returns a verdict on the task of an event.
fn verdict(event: &AgentEvent, verdict: impl Into<Event>) -> AgentEvent {
    let mut of_task = AgentEvent::new(event.time, event.agent.clone(), verdict);
    (of_task.task, of_task.trace_id) = (event.task.clone(), event.trace_id);
    of_task
}

/// Sends events, and the state of an objective after them.
pub(crate) struct Export {
    clock: Arc<ManualClock>,
    slo: Arc<Slo>,
    outbox: Outbox,
}

impl Export {
    pub(crate) fn new(exporter: Arc<dyn Exporter>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap();
        let slo = Arc::new(slo.for_agent("support-agent").with_description("Nine of ten tasks succeed."));
        let options = OutboxOptions { collect: vec![slo.clone()], clock: clock.clone(), ..OutboxOptions::default() };
        Self { clock, slo, outbox: Outbox::without_thread(exporter, client(), options).unwrap() }
    }

    /// Sends events and the state at a time, which must all be accepted.
    pub(crate) async fn send(&self, events: &[AgentEvent], at: Timestamp) -> SloSnapshot {
        self.push(events, at);
        let stats = self.flush(at).await;
        for counts in [&stats.events, &stats.state] {
            assert_eq!(counts.sent + counts.ignored, counts.received, "{stats:#?}");
        }
        self.slo.snapshot_at(at)
    }

    /// Records events at a time.
    pub(crate) fn push(&self, events: &[AgentEvent], at: Timestamp) {
        self.clock.set(at);
        for event in events {
            self.slo.observe(event);
            self.outbox.push(Arc::new(event.clone()));
        }
    }

    /// Tries to send everything at a time.
    pub(crate) async fn flush(&self, at: Timestamp) -> OutboxStats {
        self.clock.set(at);
        self.outbox.flush_due().await;
        self.outbox.stats()
    }
}
