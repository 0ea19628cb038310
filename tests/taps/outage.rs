//! A service that is away or broken neither fails nor delays an agent, and what it does not receive is reported.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sre_core::HttpClient;
use sre_http::{Client, Options};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{OTLP_URL, QUIET, model_server, python, start_service, until_totals, vercel_agent};

/// What is wrong with a service.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Nothing listens on its port.
    Away,
    /// It accepts requests and never answers.
    Silent,
    /// Its answer never ends. Every byte resets a time-out between bytes.
    Endless,
    /// It answers 500.
    Failing,
}

const OUTAGES: [Outage; 4] = [Outage::Away, Outage::Silent, Outage::Endless, Outage::Failing];
/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// Returns an address on which nothing listens.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl Outage {
    /// Starts the broken service, and returns its address and the number of its connections so far.
    async fn start(self) -> (SocketAddr, Arc<AtomicUsize>) {
        let connections = Arc::new(AtomicUsize::new(0));
        if matches!(self, Self::Away) {
            return (free_address().await, connections);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = connections.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(self.answer(connection));
            }
        });
        (address, connections)
    }

    async fn answer(self, mut connection: TcpStream) -> std::io::Result<()> {
        if matches!(self, Self::Failing) {
            let _ = connection.read(&mut [0; 1 << 16]).await?;
            return connection.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await;
        }
        loop {
            if matches!(self, Self::Endless) {
                connection.write_all(b"HTTP/1.1 200 OK\r\nx: y\r\n").await?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Runs a command to its end.
async fn run(command: Command) -> Output {
    let name = format!("{command:?}");
    let ended = tokio::process::Command::from(command).kill_on_drop(true).stdin(Stdio::null()).output();
    tokio::time::timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("hangs: {name}")).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs an agent without a service, and with broken ones. Its results must be the same, and `report` must be printed once.
/// `variable` says where the service is.
async fn results_do_not_depend_on_the_service(
    agent: &dyn Fn() -> Option<Command>,
    outages: &[Outage],
    variable: &str,
    report: &str,
) {
    let model = model_server().await;
    let prepared = || {
        let mut agent = agent()?;
        agent.env("MODEL_URL", &model).envs(QUIET);
        Some(agent)
    };
    let Some(mut alone) = prepared() else { return };
    alone.env("OTEL_SDK_DISABLED", "true").env_remove(variable);
    let alone = run(alone).await;
    assert!(alone.status.success(), "{}", text(&alone.stderr));
    let tasks = text(&alone.stdout).lines().count();
    assert!(tasks >= 4, "one line for each task");
    for outage in outages {
        let mut agent = prepared().unwrap();
        let (address, connections) = outage.start().await;
        agent.env(variable, format!("http://{address}"));
        let found = run(agent).await;
        let reported = text(&found.stderr);
        assert!(found.status.success(), "{outage:?}: {reported}");
        assert_eq!(text(&found.stdout), text(&alone.stdout), "{outage:?}: {reported}");
        assert_eq!(reported.matches(report).count(), 1, "{outage:?}: {reported}");
        if matches!(outage, Outage::Silent) && variable == "SRE_URL" {
            // A tap that made the agent wait for an answer would need one for each of its tasks.
            let connections = connections.load(Ordering::Relaxed);
            assert!((1..tasks).contains(&connections), "{connections} requests that are never answered: {reported}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langgraph_does_not_depend_on_the_service() {
    let agent = || python("langgraph, langchain_openai", "langgraph_agent.py", "taps: outage of langgraph");
    results_do_not_depend_on_the_service(&agent, &OUTAGES, "SRE_URL", " events lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_agents_do_not_depend_on_the_service() {
    let agent = || python("agents", "openai_agents_agent.py", "taps: outage of openai_agents");
    results_do_not_depend_on_the_service(&agent, &OUTAGES, "SRE_URL", " events lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_does_not_depend_on_the_service() {
    let agent = || python("opentelemetry.sdk", "otel_agent.py", "taps: outage of opentelemetry");
    let agent = || {
        let mut agent = agent()?;
        agent.env("OTEL_EXPORTER_OTLP_TIMEOUT", "2");
        Some(agent)
    };
    // The exporter has no time-out of a whole answer, so an endless one delays the exit by 30 seconds.
    let outages = [Outage::Away, Outage::Silent, Outage::Failing];
    results_do_not_depend_on_the_service(&agent, &outages, OTLP_URL, "Failed to export").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vercel_ai_sdk_does_not_depend_on_the_service() {
    let agent = || vercel_agent("taps: outage of vercel_ai_sdk");
    results_do_not_depend_on_the_service(&agent, &OUTAGES, OTLP_URL, "spans lost").await;
}

fn sender(test: &str) -> Option<Command> {
    python("os", "sender.py", test)
}

/// Events of a process and of its fork wait for the service, and count once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_once_the_service_is_back() {
    let Some(mut command) = sender("taps: events_arrive_once_the_service_is_back") else { return };
    let address = free_address().await;
    command.env("SRE_URL", format!("http://{address}")).arg("wait").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("queued"));
    let folder = tempfile::tempdir().unwrap();
    let service = start_service(folder.path(), address).await;
    let ended = tokio::time::timeout(DEADLINE, process.wait()).await.expect("the events were sent").unwrap();
    assert!(ended.success());
    until_totals(&service, &json!({"agent": "support", "tasks": 2, "succeeded": 2}), "").await;
    let metrics = Client::new(Options::default()).unwrap();
    let request = http::Request::get(format!("{}/metrics", service.url())).body(bytes::Bytes::new()).unwrap();
    let metrics = metrics.send(request).await.unwrap();
    assert!(text(metrics.body()).contains("\nsre_server_sender_lost_events_total 1\n"), "the loss is sent on");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_and_every_loss_is_counted() {
    let Some(mut command) = sender("taps: the_queue_is_bounded_and_every_loss_is_counted") else { return };
    command.env("SRE_URL", format!("http://{}", Outage::Silent.start().await.0)).arg("fill");
    let output = run(command).await;
    // 20 events of 1 MB, of which 14 fit into the queue, and one that could not be read.
    let printed = "14 of 20 events wait; Sender('langgraph', token=***)\n";
    assert_eq!(text(&output.stdout), printed, "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "losing events: no event\n21 events lost\n");
}
