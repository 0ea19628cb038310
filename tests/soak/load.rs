//! Clients that send tasks, again and again until they are acknowledged, and record what was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
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
    url: Arc<Mutex<SocketAddr>>,
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Held by each sender until what it sends is acknowledged.
    sending: RwLock<()>,
    /// How far the clocks of the senders are from the system's, in seconds.
    offset: AtomicI64,
    acknowledged: Mutex<BTreeMap<String, Counts>>,
}

impl Shared {
    fn add(&self, agent: &str, sent: &Counts) {
        self.acknowledged.lock().expect("no panic").entry(agent.to_owned()).or_default().add(sent);
    }
}

const SENDERS: u64 = 3;
/// The number of agents of each sender and format.
const AGENTS: usize = 5;
/// The largest number of tasks of a request.
const EACH: usize = 40;
/// The agent of the senders whose clocks were not set.
const STAYED: &str = "stayed";
const PAUSE: Duration = Duration::from_millis(5);

impl Load {
    pub(crate) fn start(url: Arc<Mutex<SocketAddr>>, seed: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let sender = |number| {
            let mut sender = Sender::new(number, seed, url.clone(), shared.clone());
            let shared = shared.clone();
            std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    let sending = shared.sending.read();
                    sender.send_tasks();
                    drop(sending);
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let senders = (0..SENDERS).map(sender).collect();
        Self { url, shared, senders }
    }

    /// Waits until everything that was sent is acknowledged. The senders go on when the guard is dropped.
    pub(crate) fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.sending.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clocks of the senders to an offset from the system's, in seconds.
    pub(crate) fn set_clocks(&self, offset: i64) {
        self.shared.offset.store(offset, Ordering::Relaxed);
    }

    /// Sends a task of a sender whose clock has this offset from the system's. Returns whether it is accepted, and counts.
    pub(crate) fn send_at(&self, offset: i64) -> bool {
        let line = json!({"event": "task_finished", "time": unix_time(offset), "agent": STAYED, "success": true});
        let answer = Sender::new(SENDERS, 0, self.url.clone(), self.shared.clone())
            .until_answered("/v1/events/sre", &format!("{line}\n"));
        let is_accepted = !answer.contains("\"rejected\":1");
        if is_accepted {
            let sent = Counts { tasks: 1, objective: (1, 0), ..Counts::default() };
            self.shared.add(STAYED, &sent);
        }
        is_accepted
    }

    /// Returns what was acknowledged of each agent.
    pub(crate) fn acknowledged(&self) -> BTreeMap<String, Counts> {
        self.shared.acknowledged.lock().expect("no panic").clone()
    }

    /// Ends the load, and returns what was acknowledged of each agent.
    pub(crate) fn stop(mut self) -> BTreeMap<String, Counts> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| sender.join().expect("no panic"));
        self.acknowledged()
    }
}

struct Sender {
    number: u64,
    random: fastrand::Rng,
    client: Client,
    runtime: tokio::runtime::Runtime,
    url: Arc<Mutex<SocketAddr>>,
    requests: u64,
    shared: Arc<Shared>,
}

impl Sender {
    fn new(number: u64, seed: u64, url: Arc<Mutex<SocketAddr>>, shared: Arc<Shared>) -> Self {
        let options = Options { connect_timeout: Duration::from_secs(1), ..Options::default() };
        Self {
            number,
            random: fastrand::Rng::with_seed(seed ^ number),
            client: Client::new(options).expect("a client"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            url,
            requests: 0,
            shared,
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
        self.shared.add(&agent, &sent);
    }

    /// Returns the time of this sender in Unix seconds.
    fn now(&self) -> f64 {
        unix_time(self.shared.offset.load(Ordering::Relaxed))
    }

    fn until_acknowledged(&self, path: &str, body: &str) {
        let text = self.until_answered(path, body);
        assert!(
            !text.contains("partialSuccess") && (text.contains("\"rejected\":0") || !text.contains("rejected")),
            "{path}: {text}"
        );
    }

    /// Sends a request until its status is that of a success, and returns the answer.
    fn until_answered(&self, path: &str, body: &str) -> String {
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
                    return String::from_utf8_lossy(answer.body()).into_owned();
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn own_lines(&self, agent: &str, outcomes: &[bool]) -> String {
        let line = |(number, success): (usize, &bool)| {
            let task = format!("{}-{}-{number}", self.number, self.requests);
            let call = json!({"event": "llm_call", "time": self.now(), "agent": agent, "task": task, "model": "m", "cost_usd": CALL, "success": true});
            let end =
                json!({"event": "task_finished", "time": self.now(), "agent": agent, "task": task, "success": success});
            format!("{call}\n{end}\n")
        };
        outcomes.iter().enumerate().map(line).collect()
    }

    fn langgraph_lines(&self, agent: &str, outcomes: &[bool]) -> String {
        let line = |(number, success): (usize, &bool)| {
            let run = format!("{}-{}-{number}", self.number, self.requests);
            let event = |event: &str| json!({"event": event, "time": self.now(), "run_id": run, "name": agent, "parent_ids": [], "data": {}});
            let end = if *success { "on_chain_end" } else { "on_chain_error" };
            format!("{}\n{}\n", event("on_chain_start"), event(end))
        };
        outcomes.iter().enumerate().map(line).collect()
    }

    fn spans(&self, agent: &str, outcomes: &[bool], is_root: bool) -> String {
        let nanos = (self.now() * 1e9) as u64;
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

/// Returns the Unix time of a clock that is some seconds from the system's.
fn unix_time(offset: i64) -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64() + offset as f64
}
