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
use tokio::sync::{Mutex, MutexGuard};

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
    pub(crate) address: SocketAddr,
    folder: TempDir,
    client: Client,
    /// The tasks of honest clients so far.
    pub(crate) counted: u64,
    _alone: MutexGuard<'static, ()>,
}

/// Held by one test at a time: the load of another would change times and memory.
static ALONE: Mutex<()> = Mutex::const_new(());

impl Attacked {
    /// Starts a service with these settings, besides a free port.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings).await
    }

    /// Starts a service with these settings and the files of a folder.
    pub(crate) async fn start_in(folder: TempDir, settings: &str) -> Self {
        let alone = ALONE.lock().await;
        std::fs::write(folder.path().join("sre.yaml"), format!("listen: 127.0.0.1:0\ndata: data\n{settings}")).unwrap();
        let (process, output) = spawn(folder.path(), false);
        let mut service = Self {
            process,
            output,
            address: ([127, 0, 0, 1], 0).into(),
            folder,
            client: client(),
            counted: 0,
            _alone: alone,
        };
        service.address = service.printed_address();
        service
    }

    /// Returns the address of a service that has started.
    fn printed_address(&mut self) -> SocketAddr {
        let mut lines = self.output.by_ref().lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix(LISTENING)?.parse().ok()).expect("the service starts")
    }

    /// Kills the service, and starts it again with its data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        (self.process, self.output) = spawn(self.folder.path(), false);
        self.address = self.printed_address();
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
        self.address = listen;
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

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends a body, compressed if it begins as gzip does, and returns the status of the answer.
    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> StatusCode {
        let body = body.into();
        let request = Request::post(format!("http://{}{path}", self.address)).header("content-type", kind);
        let request =
            if body.starts_with(&[0x1f, 0x8b]) { request.header("content-encoding", "gzip") } else { request };
        self.client.send(request.body(body).unwrap()).await.unwrap().status()
    }

    /// Exports a message by gRPC, in its frame. Returns the status of the answer, which says nothing of the outcome.
    #[cfg(feature = "grpc")]
    pub(crate) async fn post_grpc(&self, signal: &str, message: Vec<u8>) -> StatusCode {
        let mut service = signal.to_owned();
        service[..1].make_ascii_uppercase();
        let path = format!("/opentelemetry.proto.collector.{signal}.v1.{service}Service/Export");
        let request = Request::post(format!("http://{}{path}", self.address));
        let request = request.header("content-type", "application/grpc").header("grpc-encoding", "gzip");
        self.client.send(request.body(message.into()).unwrap()).await.unwrap().status()
    }

    /// Returns the answer to a `GET`, if there is one.
    pub(crate) async fn get(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        let request = Request::get(format!("http://{}{path}", self.address)).body(Bytes::new()).unwrap();
        self.client.send(request).await.ok().map(|answer| (answer.status(), answer.into_body()))
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

pub(crate) fn client() -> Client {
    Client::new(Options { timeout: Duration::from_secs(120), max_response: 64 << 20, ..Options::default() }).unwrap()
}
