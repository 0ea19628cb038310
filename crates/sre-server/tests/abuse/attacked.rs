//! The service under attack, in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use bytes::Bytes;
use http::{Request, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use sre_server::{Config, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use crate::connection::Target;

pub(crate) const MIB: usize = 1 << 20;

/// Names the folder of the service's settings, in the process that runs it.
const FOLDER: &str = "SRE_ABUSE_FOLDER";
const LISTENING: &str = "listening on ";

/// Runs the service, in the process that is for it.
pub(crate) async fn serve() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let server = Server::start(Config::load(&Path::new(&folder).join("sre.yaml")).unwrap()).await.unwrap();
    println!("\n{LISTENING}{}", server.address());
    std::future::pending::<()>().await;
}

/// A service in a process of its own.
pub(crate) struct Attacked {
    process: Child,
    /// Stays open, since the process fails if it cannot print.
    output: BufReader<ChildStdout>,
    pub(crate) target: Target,
    folder: TempDir,
    client: Client,
    /// The tasks of normal clients so far.
    pub(crate) counted: u64,
    _alone: MutexGuard<'static, ()>,
}

/// Held by one test at a time: the load of another would change times and memory.
static ALONE: Mutex<()> = Mutex::const_new(());

impl Attacked {
    /// Starts a service with these settings, besides a free port of this machine.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings).await
    }

    /// Starts a service with these settings and the files of a folder.
    pub(crate) async fn start_in(folder: TempDir, settings: &str) -> Self {
        Self::listen("127.0.0.1:0", folder, settings).await
    }

    /// Starts a service that listens on an address. It is reached from this machine.
    pub(crate) async fn listen(on: &str, folder: TempDir, settings: &str) -> Self {
        let alone = ALONE.lock().await;
        std::fs::write(folder.path().join("sre.yaml"), format!("listen: {on}\ndata: data\n{settings}")).unwrap();
        let (process, output) = spawn(folder.path(), false);
        let mut service = Self {
            process,
            output,
            target: Target { address: ([127, 0, 0, 1], 0).into(), tls: None, tokens: None },
            folder,
            client: client(),
            counted: 0,
            _alone: alone,
        };
        service.read_port();
        service
    }

    /// Reads the port of a service that has started.
    fn read_port(&mut self) {
        let mut lines = self.output.by_ref().lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix(LISTENING)?.parse::<SocketAddr>().ok());
        self.target.address.set_port(address.expect("the service starts").port());
    }

    /// Kills the service, and starts it again with its data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Starts a service again that was killed.
    pub(crate) fn start_again(&mut self) {
        (self.process, self.output) = spawn(self.folder.path(), false);
        self.read_port();
    }

    /// Kills the service, and starts it again while its disk is full. Until there is room, it listens at this address.
    pub(crate) async fn restart_on_full_disk(&mut self) {
        self.kill();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = self.folder.path().join("sre.yaml");
        let text =
            std::fs::read_to_string(&settings).unwrap().replace("listen: 127.0.0.1:0", &format!("listen: {listen}"));
        std::fs::write(settings, text).unwrap();
        (self.process, self.output) = spawn(self.folder.path(), true);
        self.target.address = listen;
        while self.get("/readyz").await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets every write beyond the first pages of a file fail, or ends that.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        let limit = Rlimit { current: is_full.then_some(4 << 10), maximum: None };
        prlimit(Pid::from_raw(self.process.id().cast_signed()), Resource::Fsize, limit).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends a body, compressed if it begins as gzip does, and returns the status of the answer.
    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> StatusCode {
        let body = body.into();
        let request = Request::post(format!("http://{}{path}", self.target.address)).header("content-type", kind);
        let request =
            if body.starts_with(&[0x1f, 0x8b]) { request.header("content-encoding", "gzip") } else { request };
        self.client.send(request.body(body).unwrap()).await.unwrap().status()
    }

    /// Returns the answer to a `GET`, if there is one.
    pub(crate) async fn get(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        self.target.get(path).await.map(|answer| (answer.status(), answer.into_body()))
    }

    /// Sends bytes, and returns what is answered until the connection is closed.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.target.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Returns the value of a series of `/metrics`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await.expect("an answer");
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series}"))
    }

    /// Returns what is known of an agent; null if nothing is.
    pub(crate) async fn agent(&self, name: &str) -> Value {
        let (_, agents) = self.get("/v1/agents").await.expect("an answer");
        let mut agents: Value = serde_json::from_slice(&agents).unwrap();
        let mut of_name = agents["agents"].as_array_mut().unwrap().iter_mut().filter(|agent| agent["agent"] == name);
        of_name.next().map(Value::take).unwrap_or_default()
    }

    /// Waits until an agent has as many tasks, and as many of them failed.
    pub(crate) async fn until_tasks(&self, agent: &str, tasks: u64, failed: u64) {
        let begun = Instant::now();
        loop {
            let found = self.agent(agent).await;
            if (found["tasks"].as_u64(), found["failed"].as_u64()) == (Some(tasks), Some(failed)) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{agent}: {found}, expected {tasks} tasks, {failed} failed"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the service is ready.
    pub(crate) async fn until_ready(&self) {
        let begun = Instant::now();
        loop {
            match self.get("/readyz").await {
                Some((StatusCode::OK, _)) => return,
                other => assert!(begun.elapsed() < Duration::from_secs(60), "not ready: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// Returns the largest resident memory since [`Attacked::reset_peak`], in bytes.
    pub(crate) fn peak(&self) -> usize {
        self.status("VmHWM:")
    }

    /// Forgets the largest resident memory, and returns the present one.
    pub(crate) fn reset_peak(&mut self) -> usize {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
        self.memory()
    }

    fn status(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib =
            status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kib.unwrap() << 10
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Prints a row for `docs/performance.md`, and asserts that the process grew by at most a bound, both in bytes.
pub(crate) fn assert_grown(what: &str, grown: usize, bound: usize) {
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    eprintln!("| {what} | {} | ≤ {} |", mib(grown), mib(bound));
    assert!(grown <= bound, "{what}: {grown} bytes more");
}

/// Starts the process. A write beyond its limit of files is an error, as on a full disk, and not a signal that ends it.
fn spawn(folder: &Path, is_disk_full: bool) -> (Child, BufReader<ChildStdout>) {
    let limit = if is_disk_full { "ulimit -S -f 8;" } else { "" };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; {limit} exec \"$0\" service --exact --nocapture")]);
    command.arg(std::env::current_exe().unwrap()).env(FOLDER, folder).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    (process, output)
}

fn client() -> Client {
    Client::new(Options { timeout: Duration::from_secs(120), ..Options::default() }).unwrap()
}
