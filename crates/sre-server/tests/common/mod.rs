//! A service for a test, and a client for it.
#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod browser;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use sre_server::{Config, Server};

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

pub(crate) struct Service {
    pub(crate) server: Server,
    client: Client,
    pub(crate) token: Option<String>,
}

pub(crate) fn recordings(framework: &str) -> PathBuf {
    Path::new(ROOT).join("tests/recordings").join(framework)
}

/// Returns settings with a free port and the data in `folder`.
pub(crate) fn config(folder: &Path) -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), data: folder.join("data"), ..Config::default() }
}

impl Service {
    pub(crate) async fn start(config: Config) -> Self {
        Self::of(Server::start(config).await.unwrap())
    }

    pub(crate) fn of(server: Server) -> Self {
        Self { server, client: Client::new(Options::default()).unwrap(), token: None }
    }

    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Response<Bytes> {
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        self.client.send(request.body(body.into()).unwrap()).await.unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.send(Request::get(self.url(path)), "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}: {:?}", response.body());
        serde_json::from_slice(response.body()).unwrap()
    }

    pub(crate) async fn get_raw(&self, path: &str) -> Response<Bytes> {
        self.send(Request::get(self.url(path)), "").await
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        self.send(self.request(path, kind), body).await
    }

    pub(crate) fn request(&self, path: &str, kind: &str) -> http::request::Builder {
        Request::post(self.url(path)).header("content-type", kind)
    }

    pub(crate) async fn events(&self, lines: &str) -> Value {
        let response = self.post("/v1/events/sre", "application/x-ndjson", lines.to_owned()).await;
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
        serde_json::from_slice(response.body()).unwrap()
    }

    /// Sends tasks of an agent, five seconds apart, as LangGraph's events and as spans: as many as end within the minute for which
    /// an end waits for that of the other source.
    pub(crate) async fn tasks_from_two_sources(&self, agent: &str, count: u64) {
        for number in 0..count {
            let (id, end) = (number + 1, 1_790_000_000 + 5 * number);
            let line = |event: &str, time: u64| json!({"event": event, "time": time, "run_id": format!("run-{id}"), "name": agent, "parent_ids": [], "data": {}});
            let lines = format!("{}\n{}\n", line("on_chain_start", end - 5), line("on_chain_end", end));
            let span = json!({
                "traceId": format!("{id:032x}"), "spanId": format!("{id:016x}"), "name": "invoke_agent",
                "startTimeUnixNano": format!("{}000000000", end - 5), "endTimeUnixNano": format!("{end}020000000"),
                "attributes": [
                    {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
                    {"key": "gen_ai.agent.name", "value": {"stringValue": agent}},
                ],
            });
            let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
            for (path, kind, body) in
                [("/v1/events/langgraph", "application/x-ndjson", lines), ("/v1/traces", "application/json", spans)]
            {
                let response = self.post(path, kind, body).await;
                assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
            }
        }
    }

    pub(crate) async fn totals(&self) -> Value {
        self.get("/v1/slos").await["totals"].take()
    }

    /// Polls until the answer meets a condition: some results take a second or two.
    pub(crate) async fn until(&self, path: &str, is_met: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(path).await;
            if is_met(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{path} still answers {answer:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Returns a line: a task of an agent that has just finished.
pub(crate) fn finished(agent: &str, task: usize, success: bool) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    format!(
        "{{\"event\":\"task_finished\",\"time\":{now:.3},\"agent\":\"{agent}\",\"task\":\"{task}\",\"success\":{success},\"duration_ms\":20}}\n"
    )
}

/// An objective that freezes deploys.
pub(crate) const BUSY: &str = "name: answers\nlabels: {team: search}\nindicators: [{type: task_success_rate, target: 0.9}]\n\
                    error_budget_policy: {exhaustion_action: freeze_deployments}\n";

/// Returns lines of tasks of an agent that have just finished, the first `failed` of them with an error.
pub(crate) fn tasks(agent: &str, count: usize, failed: usize) -> String {
    (0..count).map(|task| finished(agent, task, task >= failed)).collect()
}

/// Returns settings with these objectives, a free port and the data in `folder`.
pub(crate) fn own_slos(folder: &Path, text: &str) -> Config {
    std::fs::write(folder.join("slo.yaml"), text).unwrap();
    Config { slos: vec![folder.join("slo.yaml")], ..config(folder) }
}
