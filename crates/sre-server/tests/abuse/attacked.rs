//! The service under attack, and its honest client.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use sre_server::{Config, Server};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

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
    _output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    folder: TempDir,
    client: Client,
    /// The tasks of honest clients so far.
    counted: u64,
    _alone: MutexGuard<'static, ()>,
}

/// Held by one test at a time: the load of another would change times and memory.
static ALONE: Mutex<()> = Mutex::const_new(());

impl Attacked {
    /// Starts a service with these settings, besides a free port.
    pub(crate) async fn start(settings: &str) -> Self {
        let alone = ALONE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sre.yaml"), format!("listen: 127.0.0.1:0\ndata: data\n{settings}")).unwrap();
        let (process, output, address) = Self::spawn(folder.path());
        Self { process, _output: output, address, folder, client: client(), counted: 0, _alone: alone }
    }

    fn spawn(folder: &Path) -> (Child, BufReader<ChildStdout>, SocketAddr) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["service", "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let address =
            output.by_ref().lines().map_while(Result::ok).find_map(|line| line.strip_prefix(LISTENING)?.parse().ok());
        (process, output, address.expect("the service starts"))
    }

    /// Kills the service, and starts it again with its data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        (self.process, self._output, self.address) = Self::spawn(self.folder.path());
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

    /// Returns the answer to a `GET`, if there is one.
    pub(crate) async fn get(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        let request = Request::get(format!("http://{}{path}", self.address)).body(Bytes::new()).unwrap();
        self.client.send(request).await.ok().map(|answer| (answer.status(), answer.into_body()))
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

fn client() -> Client {
    Client::new(Options { timeout: Duration::from_secs(60), max_response: 64 << 20, ..Options::default() }).unwrap()
}

/// Returns a line: a task of an agent that has just finished.
pub(crate) fn finished(agent: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    format!("{{\"event\":\"task_finished\",\"time\":{now:.3},\"agent\":\"{agent}\",\"success\":true}}\n")
}

/// A client that sends a task every few milliseconds while others attack.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    /// The status of each answer, and how long it took.
    sending: JoinHandle<Vec<(Option<StatusCode>, Duration)>>,
}

/// Time between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Within which 99 % of the requests are acknowledged: much longer than without an attack, and much shorter than a client waits.
const PATIENCE: Duration = Duration::from_secs(2);

impl Honest {
    pub(crate) fn beside(service: &Attacked) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, address) = (stop.clone(), service.address);
        let sending = tokio::spawn(async move {
            let (client, mut answers) = (client(), Vec::new());
            while !stopping.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let request =
                    Request::post(format!("http://{address}/v1/events/sre")).body(finished("honest").into()).unwrap();
                let status = client.send(request).await.ok().map(|answer| answer.status());
                answers.push((status, begun.elapsed()));
                tokio::time::sleep(PAUSE).await;
            }
            answers
        });
        Self { stop, sending }
    }

    /// Stops the client: everything that it sent was acknowledged in time, and its agent has as many tasks more.
    pub(crate) async fn ends_unharmed(self, service: &mut Attacked) {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.sending.await.unwrap();
        let refused = answers.iter().filter(|(status, _)| *status != Some(StatusCode::OK)).count();
        assert_eq!(refused, 0, "of {} requests", answers.len());
        let mut times: Vec<Duration> = answers.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        let slow = times[times.len() * 99 / 100];
        assert!(slow <= PATIENCE, "the 99th percentile of {} requests took {slow:?}", times.len());
        let (_, agents) = service.get("/v1/agents").await.expect("an answer");
        let agents: Value = serde_json::from_slice(&agents).unwrap();
        let own = agents["agents"].as_array().unwrap().iter().find(|agent| agent["agent"] == "honest").unwrap();
        let before = std::mem::replace(&mut service.counted, own["tasks"].as_u64().unwrap());
        assert_eq!(service.counted - before, answers.len() as u64);
    }
}
