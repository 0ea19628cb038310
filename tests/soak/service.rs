//! The service in a process of its own, with a clock that can be stepped and a disk that can be full.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_sre::{Clock, SystemClock, Timestamp, Usd};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use sre_server::{Config, Server};
use tempfile::TempDir;

use crate::get;
use crate::load::Counts;

/// The first argument of the process that runs the service.
pub(crate) const SERVE: &str = "serve";
const LISTENING: &str = "listening on ";
/// How far the clock may be from the system's, in seconds.
const MAX_OFFSET: i64 = 200;
/// How long a start or stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The system's clock, with an offset in seconds.
struct SteppedClock(Arc<AtomicI64>);

impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        let (now, offset) = (SystemClock.now(), self.0.load(Ordering::Relaxed));
        let by = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
    }
}

/// Runs the service until SIGTERM. Each line of the input is the offset of its clock.
pub(crate) async fn serve(folder: &Path) {
    let offset = Arc::new(AtomicI64::new(0));
    let mut lines = BufReader::new(std::io::stdin()).lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
    offset.store(lines.next().expect("the offset of the clock"), Ordering::Relaxed);
    let clock = SteppedClock(offset.clone());
    std::thread::spawn(move || lines.for_each(|next| offset.store(next, Ordering::Relaxed)));
    let config = Config::load(&folder.join("sre.yaml")).expect("valid settings");
    let server = Server::start_with_clock(config, Arc::new(clock)).await.expect("the service starts");
    println!("{LISTENING}{}", server.address());
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal handler");
    stop.recv().await;
    server.stop().await;
}

pub(crate) struct Service {
    folder: TempDir,
    process: Child,
    input: ChildStdin,
    /// Stays open, since a process that cannot print fails.
    _output: BufReader<ChildStdout>,
    /// The offset of the clock in seconds.
    offset: i64,
    /// The present address, for the clients.
    pub(crate) url: Arc<Mutex<SocketAddr>>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = "listen: 127.0.0.1:0\ndata: data\nslos: [slo.yaml]\nsnapshot_after: 1MiB\nclient_timeout: 2s\n";
        std::fs::write(folder.path().join("sre.yaml"), settings).expect("a file");
        write_objectives(folder.path(), 0.9);
        let (process, input, output, address) = spawn(folder.path(), 0);
        Self { folder, process, input, _output: output, offset: 0, url: Arc::new(Mutex::new(address)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.url.lock().expect("no panic")
    }

    /// Ends the service, at once or in order, and starts it again.
    pub(crate) fn restart(&mut self, in_order: bool) {
        let signal = if in_order { Signal::TERM } else { Signal::KILL };
        kill_process(self.pid(), signal).expect("the service runs");
        let begun = Instant::now();
        while self.process.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the service does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let address;
        (self.process, self.input, self._output, address) = spawn(self.folder.path(), self.offset);
        *self.url.lock().expect("no panic") = address;
    }

    pub(crate) fn change_objectives(&self, share: f64) {
        write_objectives(self.folder.path(), 0.8 + 0.19 * share);
    }

    /// Lets every write beyond the first pages of a file fail, or ends that.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        let limit = Rlimit { current: is_full.then_some(4 << 10), maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a limit");
    }

    /// Steps the clock, by less than a task may take, and not further from the time of the events than is accepted.
    pub(crate) fn step_clock(&mut self, seconds: i64) {
        self.set_clock((self.offset + seconds).clamp(-MAX_OFFSET, MAX_OFFSET));
    }

    /// Sets the clock to an offset from the system's, in seconds.
    pub(crate) fn set_clock(&mut self, offset: i64) {
        self.offset = offset;
        writeln!(self.input, "{offset}").expect("the service reads");
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_default() << 10
    }

    /// Returns what the service counts, by agent; nothing if it does not answer.
    pub(crate) fn counts(&self) -> BTreeMap<String, Counts> {
        let list = |path: &str, name: &str| -> Vec<Value> {
            let answer = get(self.address(), path).and_then(|body| serde_json::from_str::<Value>(&body).ok());
            answer.and_then(|mut answer| Some(answer[name].as_array_mut()?.drain(..).collect())).unwrap_or_default()
        };
        let name = |of: &Value| of["agent"].as_str().unwrap_or_default().to_owned();
        let count = |of: &Value, name: &str| of[name].as_u64().unwrap_or_default();
        let mut counts = BTreeMap::<String, Counts>::new();
        for agent in list("/v1/agents", "agents") {
            let own = counts.entry(name(&agent)).or_default();
            (own.tasks, own.failed) = (count(&agent, "tasks"), count(&agent, "failed"));
            (own.model_calls, own.tool_calls) = (count(&agent, "llm_calls"), count(&agent, "tool_calls"));
            own.cost = agent["cost_usd"].as_str().and_then(|cost| cost.parse::<Usd>().ok()).unwrap_or_default();
        }
        for objective in list("/v1/slos", "slos") {
            counts.entry(name(&objective)).or_default().objective =
                (count(&objective, "good"), count(&objective, "bad"));
        }
        counts
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_objectives(folder: &Path, target: f64) {
    let text = format!(
        "name: answers\nindicators: [{{type: task_success_rate, target: {target:.4}}}, {{type: cost_per_task}}]\n"
    );
    // As an editor does, so that the service never reads half a file.
    std::fs::write(folder.join("slo.new"), text).expect("a file");
    std::fs::rename(folder.join("slo.new"), folder.join("slo.yaml")).expect("a file");
}

fn spawn(folder: &Path, offset: i64) -> (Child, ChildStdin, BufReader<ChildStdout>, SocketAddr) {
    // A write beyond the limit is an error, as on a full disk, and not a signal that ends the process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" serve \"$1\""])
        .arg(std::env::current_exe().expect("a path"))
        .arg(folder);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
    let mut input = process.stdin.take().expect("a pipe");
    writeln!(input, "{offset}").expect("the service reads");
    let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
    let mut lines = output.by_ref().lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix(LISTENING)?.parse().ok());
    (process, input, output, address.expect("the service starts"))
}
