//! Clients that send tasks, again and again until they are acknowledged, and record what was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use agent_sre::http::{Client, Options};
use agent_sre::{HttpClient, Usd};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

/// The counts of an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) tasks: u64,
    pub(crate) failed: u64,
    pub(crate) model_calls: u64,
    pub(crate) tool_calls: u64,
    pub(crate) cost: Usd,
    /// Good and bad events of its objective.
    pub(crate) objective: (u64, u64),
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.failed += other.failed;
        self.model_calls += other.model_calls;
        self.tool_calls += other.tool_calls;
        self.cost += other.cost;
        self.objective.0 += other.objective.0;
        self.objective.1 += other.objective.1;
    }
}

/// Clients on threads of their own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<BTreeMap<String, Counts>>>,
}

const SENDERS: u64 = 3;
/// The number of agents of each sender and format.
const AGENTS: usize = 5;
/// The largest number of tasks of a request.
const EACH: usize = 40;
const PAUSE: Duration = Duration::from_millis(5);

impl Load {
    pub(crate) fn start(url: Arc<Mutex<SocketAddr>>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender = |number| {
            let mut sender = Sender::new(number, seed, url.clone());
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    sender.send_tasks();
                    std::thread::sleep(PAUSE);
                }
                sender.acknowledged
            })
        };
        let senders = (0..SENDERS).map(sender).collect();
        Self { stop, senders }
    }

    /// Ends the load, and returns what was acknowledged of each agent.
    pub(crate) fn stop(self) -> BTreeMap<String, Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        self.senders.into_iter().for_each(|sender| all.extend(sender.join().expect("no panic")));
        all
    }
}

struct Sender {
    number: u64,
    random: fastrand::Rng,
    client: Client,
    runtime: tokio::runtime::Runtime,
    url: Arc<Mutex<SocketAddr>>,
    requests: u64,
    acknowledged: BTreeMap<String, Counts>,
}

impl Sender {
    fn new(number: u64, seed: u64, url: Arc<Mutex<SocketAddr>>) -> Self {
        let options = Options { connect_timeout: Duration::from_secs(1), ..Options::default() };
        Self {
            number,
            random: fastrand::Rng::with_seed(seed ^ number),
            client: Client::new(options).expect("a client"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            url,
            requests: 0,
            acknowledged: BTreeMap::new(),
        }
    }

    /// Sends some tasks in one of the formats, until they are acknowledged.
    fn send_tasks(&mut self) {
        self.requests += 1;
        let (format, agent) = (self.random.usize(..3), self.random.usize(..AGENTS));
        let outcomes: Vec<bool> = (0..self.random.usize(1..EACH)).map(|_| self.random.u32(..10) > 0).collect();
        let agent = format!("{}-{}-{agent}", ["own", "otlp", "langgraph"][format], self.number);
        let (tasks, failed) = (outcomes.len() as u64, outcomes.iter().filter(|success| !**success).count() as u64);
        let mut sent = Counts { tasks, failed, objective: (tasks - failed, failed), ..Counts::default() };
        match format {
            0 => {
                sent.model_calls = tasks;
                sent.cost = outcomes.iter().map(|_| CALL.parse::<Usd>().expect("an amount")).sum();
                self.until_acknowledged("/v1/events/sre", &self.own_lines(&agent, &outcomes));
            }
            1 => {
                sent.tool_calls = tasks;
                // The children of each task, and then its root.
                for is_root in [false, true] {
                    self.until_acknowledged("/v1/traces", &self.spans(&agent, &outcomes, is_root));
                }
            }
            _ => self.until_acknowledged("/v1/events/langgraph", &self.langgraph_lines(&agent, &outcomes)),
        }
        self.acknowledged.entry(agent).or_default().add(&sent);
    }

    fn until_acknowledged(&self, path: &str, body: &str) {
        let key = format!("{}-{}", self.number, self.requests);
        let body = Bytes::copy_from_slice(body.as_bytes());
        loop {
            let address = *self.url.lock().expect("no panic");
            let request = Request::post(format!("http://{address}{path}"))
                .header("content-type", "application/json")
                .header("idempotency-key", &key)
                .body(body.clone())
                .expect("a request");
            match self.runtime.block_on(self.client.send(request)) {
                Ok(answer) if answer.status().is_success() => {
                    let text = String::from_utf8_lossy(answer.body());
                    assert!(
                        !text.contains("partialSuccess")
                            && (text.contains("\"rejected\":0") || !text.contains("rejected")),
                        "{path}: {text}"
                    );
                    return;
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn own_lines(&self, agent: &str, outcomes: &[bool]) -> String {
        let line = |(number, success): (usize, &bool)| {
            let task = format!("{}-{}-{number}", self.number, self.requests);
            let call = json!({"event": "llm_call", "time": now(), "agent": agent, "task": task, "model": "m", "cost_usd": CALL, "success": true});
            let end =
                json!({"event": "task_finished", "time": now(), "agent": agent, "task": task, "success": success});
            format!("{call}\n{end}\n")
        };
        outcomes.iter().enumerate().map(line).collect()
    }

    fn langgraph_lines(&self, agent: &str, outcomes: &[bool]) -> String {
        let line = |(number, success): (usize, &bool)| {
            let run = format!("{}-{}-{number}", self.number, self.requests);
            let event = |event: &str| json!({"event": event, "time": now(), "run_id": run, "name": agent, "parent_ids": [], "data": {}});
            let end = if *success { "on_chain_end" } else { "on_chain_error" };
            format!("{}\n{}\n", event("on_chain_start"), event(end))
        };
        outcomes.iter().enumerate().map(line).collect()
    }

    fn spans(&self, agent: &str, outcomes: &[bool], is_root: bool) -> String {
        let nanos = (now() * 1e9) as u64;
        let span = |(number, success): (usize, &bool)| {
            let trace = format!("{:016x}{:016x}", self.number + 1, self.requests * 1_000 + number as u64 + 1);
            let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
            let (id, parent, operation) =
                if is_root { (1, String::new(), "invoke_agent") } else { (2, format!("{:016x}", 1), "execute_tool") };
            json!({
                "traceId": trace, "spanId": format!("{id:016x}"), "parentSpanId": parent, "name": operation,
                "startTimeUnixNano": nanos.to_string(), "endTimeUnixNano": (nanos + 1_000_000).to_string(),
                "attributes": [attribute("gen_ai.operation.name", operation), attribute("gen_ai.agent.name", agent)],
                "status": if is_root && !success { json!({"code": 2, "message": "failed"}) } else { json!({}) },
            })
        };
        let spans: Vec<Value> = outcomes.iter().enumerate().map(span).collect();
        json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string()
    }
}

/// The cost of a model call in dollars.
const CALL: &str = "0.001";

/// Returns the time in Unix seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
