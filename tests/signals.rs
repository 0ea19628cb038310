//! Ten thousand objectives fail in one tick, and the process is killed again and again: no signal is lost.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_sre::alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig};
use agent_sre::event::TaskFinished;
use agent_sre::slo::SliRegistry;
use agent_sre::sqlite::{SqliteAlertStore, SqliteSpool};
use agent_sre::{
    AgentEvent, Alert, EngineSettings, Phase, Runtime, Severity, Signal, SignalHandler, StateReader, StateWriter,
    Timestamp,
};
use sre_testkit::incidents::{Incident, Incidents};

const AGENTS: usize = 5_000;
/// Two objectives for each agent.
const INCIDENTS: usize = 2 * AGENTS;
const START: i64 = 1_790_000_000;
const DEADLINE: Duration = Duration::from_secs(120);
const SLOS: &str = "
name: answers
indicators: [{type: task_success_rate, target: 0.5}]
error_budget_policy: {min_events: 2}
---
name: results
indicators: [{type: task_success_rate, target: 0.5}]
error_budget_policy: {min_events: 2}
";
/// The variable with the folder of the process that is killed.
const FOLDER: &str = "SRE_SIGNALS_TEST";
/// The file that opens the gate of the slow receiver.
const GATE: &str = "open";

/// A file to which a receiver appends what it receives: `begin KEY` or `end KEY`.
struct Log(Mutex<File>);

impl Log {
    fn open(folder: &Path, name: &str) -> Arc<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap();
        Arc::new(Self(Mutex::new(file)))
    }

    fn append(&self, lines: &str) {
        self.0.lock().unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

fn line(is_begin: bool, key: &str) -> String {
    format!("{} {key}\n", if is_begin { "begin" } else { "end" })
}

/// Writes down every signal, and is slow, or panics at every third call before it has done anything.
struct Receiver {
    log: Arc<Log>,
    calls: AtomicU64,
    /// The file for which a slow receiver waits; another panics.
    gate: Option<PathBuf>,
}

impl SignalHandler for Receiver {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match &self.gate {
            None => assert!(!call.is_multiple_of(3), "a handler's mistake"),
            // A batch comes through, and the others only once the gate is open.
            Some(gate) => {
                while call > 0 && !gate.exists() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        let lines: String = signals.iter().map(|signal| line(signal.phase == Phase::Firing, &signal.key)).collect();
        self.log.append(&lines);
    }
}

/// Freezes an agent's deploys while its objective burns, and reports it by a signal.
struct Freeze;

impl SignalHandler for Freeze {
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
        for signal in signals.iter().filter(|signal| signal.source == "slo") {
            let key = format!("freeze/{}", signal.key);
            emit(match signal.phase {
                Phase::Firing => Signal::firing("freeze", key, Severity::Warning, signal.time),
                _ => Signal::resolved("freeze", key, signal.time),
            });
        }
    }
}

/// The process that is killed: this binary. It obeys the lines `fail` and `recover`, answers `evaluated` to each, saves its state, and
/// answers `saved`.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    std::panic::set_hook(Box::new(|_| {}));
    let store = Arc::new(SqliteAlertStore::open(folder.join("alerts.db")).unwrap());
    let alerts = Arc::new(AlertManager::new(AlertOptions { store: Some(store), ..AlertOptions::default() }).unwrap());
    let log = Log::open(&folder, "alerts");
    let deliver = move |alert: &Alert| log.append(&line(alert.severity != Severity::Resolved, &alert.dedup_key));
    alerts.add_channel(CallbackChannel::new("receiver", deliver), ChannelConfig::default()).unwrap();
    let receiver = |name, gate| Arc::new(Receiver { log: Log::open(&folder, name), calls: AtomicU64::new(0), gate });
    let settings = EngineSettings {
        slos: agent_sre::slo::parse(SLOS, "slos", &SliRegistry::default()).unwrap(),
        max_agents: AGENTS,
        ..EngineSettings::default()
    };
    let runtime = Runtime::builder()
        .engines(&settings)
        .unwrap()
        .handle("alerts", alerts)
        .handle("slow", receiver("slow", Some(folder.join(GATE))))
        .handle("panicking", receiver("panicking", None))
        .handle("freeze", Arc::new(Freeze))
        .spool(Arc::new(SqliteSpool::open(folder.join("spool.db")).unwrap()))
        .build()
        .unwrap();
    let saved = folder.join("state");
    if let Ok(state) = std::fs::read(&saved) {
        for section in StateReader::new(&state).sections() {
            let (name, mut part) = section.unwrap();
            assert!(runtime.restore(name, &mut part).unwrap(), "{name}");
        }
    }
    runtime.evaluate(Timestamp::from_secs(START + 3));
    println!("ready");
    for command in std::io::stdin().lines() {
        let (at, success, count) = if command.unwrap() == "fail" { (1, false, 2) } else { (2, true, 8) };
        let at = Timestamp::from_secs(START + at);
        for agent in 0..AGENTS {
            let agent = format!("agent-{agent}");
            (0..count).for_each(|_| runtime.record(AgentEvent::new(at, &*agent, TaskFinished::new(success))));
        }
        runtime.evaluate(at);
        println!("evaluated");
        let mut state = StateWriter::default();
        runtime.save(&mut state);
        std::fs::write(folder.join("new"), state.finish().unwrap()).unwrap();
        std::fs::rename(folder.join("new"), &saved).unwrap();
        println!("saved");
    }
}

struct Process {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, output };
        process.wait_for("ready");
        process
    }

    fn wait_for(&mut self, word: &str) {
        assert!(self.output.any(|line| line.unwrap().ends_with(word)), "{word}");
    }

    fn command(&mut self, command: &str, answer: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.wait_for(answer);
    }
}

impl Drop for Process {
    /// Kills the process with SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn received(folder: &Path, name: &str) -> Incidents {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut incidents = Incidents::default();
    // A kill may cut the last line of a process short.
    for (event, key) in text.lines().filter_map(|line| line.split_once(' ')) {
        if matches!(event, "begin" | "end") {
            incidents.record(key, event == "end");
        }
    }
    incidents
}

fn wait_until(folder: &Path, name: &str, expected: usize, is_counted: impl Fn(Incident) -> bool) {
    let begun = Instant::now();
    loop {
        let found = received(folder, name).count(&is_counted);
        if found >= expected {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{name}: found {found} incidents, expected {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_receiver_sees_one_begin_and_one_end_of_every_incident() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut process = Process::start(folder);
    // Killed before the state is saved, so that the events come again.
    process.command("fail", "evaluated");
    drop(process);
    process = Process::start(folder);
    process.command("fail", "saved");
    for kill_at in [0, 1, INCIDENTS / 10] {
        wait_until(folder, "alerts", kill_at, |incident| incident.begins > 0);
        drop(process);
        process = Process::start(folder);
    }
    // The slow receiver has begins before it, and the ends come now.
    let late = received(folder, "slow").len();
    assert!(late < INCIDENTS, "{late} incidents have begun");
    process.command("recover", "saved");
    std::fs::write(folder.join(GATE), "").unwrap();
    for kill_at in [0, 1, INCIDENTS / 2] {
        wait_until(folder, "alerts", kill_at, |incident| incident.ends > 0);
        drop(process);
        process = Process::start(folder);
    }
    for name in ["alerts", "slow", "panicking"] {
        // The freeze's signals too.
        wait_until(folder, name, 2 * INCIDENTS, |incident| incident.ends > 0 && !incident.is_open);
    }
    drop(process);
    let alerts = received(folder, "alerts");
    let wrong: Vec<_> = alerts.iter().filter(|(_, incident)| !incident.is_whole()).collect();
    assert!(
        alerts.len() == 2 * INCIDENTS && wrong.is_empty(),
        "{} of {}: {:?}",
        wrong.len(),
        alerts.len(),
        wrong.first()
    );
    for name in ["slow", "panicking"] {
        let seen = received(folder, name);
        let is_complete = |incident: Incident| incident.begins > 0 && incident.ends > 0 && !incident.is_open;
        assert!(seen.len() == 2 * INCIDENTS && seen.count(is_complete) == seen.len(), "{name}");
    }
}
