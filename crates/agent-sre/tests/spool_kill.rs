//! One-off signals that wait in a SQLite spool, and in the saved state, outlive a kill.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_sre::event::Heartbeat;
use agent_sre::sqlite::SqliteSpool;
use agent_sre::{
    AgentEvent, Observe, Runtime, Severity, Signal, SignalHandler, Spool, StateReader, StateWriter, Timestamp,
};

/// More than wait in memory.
const SIGNALS: usize = 12_000;
const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
/// The variable with the folder of the process that is killed.
const FOLDER: &str = "SRE_SPOOL_KILL_TEST";

/// Raises all signals at the first event.
struct Burst;

impl Observe for Burst {
    fn observe(&self, _event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        (0..SIGNALS).for_each(|number| signals(Signal::one_off("test", format!("task/{number}"), Severity::Info, NOW)));
    }
}

/// Appends the keys of signals to a file, once there is a file `open` beside it.
struct Writer(PathBuf);

impl SignalHandler for Writer {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        while !self.0.join("open").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let keys: String = signals.iter().map(|signal| format!("{}\n", signal.key)).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join("handled")).unwrap();
        file.write_all(keys.as_bytes()).unwrap();
    }
}

/// The process that is killed: this binary. It raises the signals unless it has a state, saves its state, and says so.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = Runtime::builder()
        .observe(Arc::new(Burst))
        .handle("writer", Arc::new(Writer(folder.clone())))
        .spool(Arc::new(SqliteSpool::open(folder.join("spool.db")).unwrap()))
        .build()
        .unwrap();
    match std::fs::read(folder.join("state")) {
        Ok(state) => {
            for section in StateReader::new(&state).sections() {
                let (name, mut part) = section.unwrap();
                assert!(runtime.restore(name, &mut part).unwrap(), "{name}");
            }
            assert!(runtime.flush(Duration::from_secs(60)));
            println!("handled");
        }
        Err(_) => {
            runtime.record(AgentEvent::new(NOW, "agent", Heartbeat::default()));
            let mut state = StateWriter::default();
            runtime.save(&mut state);
            std::fs::write(folder.join("state"), state.finish().unwrap()).unwrap();
            println!("saved");
        }
    }
    // Until it is killed.
    let _ = std::io::stdin().lines().next();
}

/// Starts the process, and waits until it has said `word`.
fn start(folder: &Path, word: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().ends_with(word)), "{word}");
    child
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn every_one_off_signal_is_handled_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    kill(start(folder.path(), "saved"));
    let spool = SqliteSpool::open(folder.path().join("spool.db")).unwrap();
    let spooled: u64 = spool.queues().unwrap().iter().map(|queue| spool.size(queue).unwrap().records).sum();
    // Ten thousand wait in memory, and the handler has a batch.
    assert!(spooled >= 900, "{spooled} wait in the spool");
    drop(spool);
    std::fs::write(folder.path().join("open"), "").unwrap();
    kill(start(folder.path(), "handled"));
    let handled = std::fs::read_to_string(folder.path().join("handled")).unwrap();
    let keys: BTreeSet<&str> = handled.lines().collect();
    assert_eq!(keys.len(), SIGNALS, "of {} that were handled", handled.lines().count());
}
