use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::OpenRun;
use crate::event::{Handoff, LlmCall, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use crate::{AgentEvent, Clock, Event, SystemClock, TaskCosts, Timestamp, Usd, lock};

/// Receives the events of an instrumented program. Closures implement it.
pub trait EventSink: Send + Sync {
    /// Accepts one event.
    fn accept(&self, event: AgentEvent);
}

impl<F: Fn(AgentEvent) + Send + Sync> EventSink for F {
    fn accept(&self, event: AgentEvent) {
        self(event);
    }
}

/// What a call of a model used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LlmUsage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// What the call cost, where known.
    pub cost_usd: Option<Usd>,
}

/// Turns method calls into events: the base of the `on_…` methods of adapters.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn EventSink>,
    seen: Arc<Mutex<RunTally>>,
}

impl Recorder {
    /// Returns a recorder that sends events to `sink`, with the time of the system.
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self::with_clock(sink, Arc::new(SystemClock))
    }

    /// Returns a recorder that sends events to `sink`, with the time of `clock`.
    pub fn with_clock(sink: Arc<dyn EventSink>, clock: Arc<dyn Clock>) -> Self {
        Self { clock, sink, seen: Arc::default() }
    }

    /// Starts a run of `agent`. Runs may overlap; each has its own handle.
    pub fn start(&self, agent: &str) -> Run {
        let number = {
            let mut seen = lock(&self.seen);
            seen.runs += 1;
            seen.runs
        };
        let started = self.clock.now();
        let task = format!("{agent}-{}-{number}", started.as_nanos());
        let mut open = OpenRun::native(agent, &task, started, ());
        open.native_id = None;
        self.send(open.started(Some(agent.to_owned())));
        Run { recorder: self.clone(), open, depth: 0, spans: AtomicU64::new(0), ended: false }
    }

    /// Returns the totals of the runs that have ended.
    pub fn snapshot(&self) -> AdapterSnapshot {
        lock(&self.seen).snapshot.clone()
    }

    /// Resets the totals of the snapshot.
    pub fn clear(&self) {
        let mut seen = lock(&self.seen);
        *seen = RunTally { runs: seen.runs, ..RunTally::default() };
    }

    fn send(&self, event: AgentEvent) {
        lock(&self.seen).observe(&event);
        self.sink.accept(event);
    }
}

impl Default for Recorder {
    /// Returns a recorder that only counts for the snapshot.
    fn default() -> Self {
        Self::new(Arc::new(|_| {}))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

/// A run in progress. A run that is dropped without an end counts as incomplete.
#[derive(Debug)]
pub struct Run {
    recorder: Recorder,
    open: OpenRun<()>,
    depth: u32,
    /// How many spans were recorded inside the run.
    spans: AtomicU64,
    ended: bool,
}

impl Run {
    /// Returns the task of its events.
    pub fn task(&self) -> &str {
        &self.open.task
    }

    /// Returns the time of the recorder's clock.
    pub fn now(&self) -> Timestamp {
        self.recorder.clock.now()
    }

    /// Records any event of this run.
    pub fn record(&self, event: impl Into<Event>) {
        let number = self.spans.fetch_add(1, Ordering::Relaxed).to_string();
        let mut event = self.open.native_event(self.now(), &number, None, event);
        event.native_id = None;
        self.recorder.send(event);
    }

    /// Records the end of a step that started at `started`, where known.
    pub fn step(&self, name: &str, kind: &str, error: Option<&str>, started: Option<Timestamp>) {
        let mut step = StepFinished::new(name, kind).with_error(error.map(str::to_owned));
        step.duration_ms = started.map(|started| self.now().millis_since(started));
        self.record(step);
    }

    /// Records a call of a tool, with `error` where it failed.
    pub fn tool_call(&self, tool: &str, error: Option<&str>) {
        self.record(ToolCall::new(tool).with_error(error.map(str::to_owned)));
    }

    /// Records a call of a model.
    pub fn llm_call(&self, usage: LlmUsage) {
        let mut call = LlmCall::new(None);
        (call.input_tokens, call.output_tokens) = (usage.input_tokens, usage.output_tokens);
        call.cost_usd = usage.cost_usd;
        self.record(call);
    }

    /// Records that one agent passed the task on to another.
    pub fn handoff(&mut self, from: &str, to: &str) {
        self.depth += 1;
        let mut handoff = Handoff::new(from, to);
        handoff.depth = self.depth;
        self.record(handoff);
    }

    /// Records the check of a guardrail or policy.
    pub fn policy_check(&self, policy: &str, compliant: bool) {
        self.record(PolicyCheck::new(policy, compliant));
    }

    /// Ends the run. An error makes it a failure whatever `success` says.
    pub fn end(mut self, success: bool, error: Option<&str>) {
        self.ended = true;
        let error = error.map(str::to_owned).or_else(|| (!success).then(|| "failed".to_owned()));
        self.recorder.send(self.open.finished(self.now(), error));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            self.recorder.send(self.open.incomplete(self.now()));
        }
    }
}

/// Totals of the runs of an adapter. No data is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AdapterSnapshot {
    /// Tasks that ended.
    pub tasks: u64,
    /// The share of them that succeeded.
    pub task_success_rate: Option<f64>,
    /// What they cost: each by its own figure, else by its model calls.
    pub total_cost_usd: Usd,
    /// How long they took on average.
    pub avg_duration_ms: Option<f64>,
    /// The share of tool calls that succeeded.
    pub tool_accuracy: Option<f64>,
}

/// The sums behind the snapshot's means.
#[derive(Debug, Default)]
struct RunTally {
    snapshot: AdapterSnapshot,
    runs: u64,
    succeeded: u64,
    timed: u64,
    duration_ms: f64,
    tool_calls: u64,
    tool_successes: u64,
    costs: TaskCosts,
}

impl RunTally {
    fn observe(&mut self, event: &AgentEvent) {
        let snapshot = &mut self.snapshot;
        match &event.event {
            Event::TaskFinished(TaskFinished { success, duration_ms, .. }) => {
                snapshot.tasks += 1;
                self.succeeded += u64::from(*success);
                snapshot.task_success_rate = Some(self.succeeded as f64 / snapshot.tasks as f64);
                if let Some(duration_ms) = duration_ms {
                    self.timed += 1;
                    self.duration_ms += duration_ms;
                    snapshot.avg_duration_ms = Some(self.duration_ms / self.timed as f64);
                }
            }
            Event::ToolCall(ToolCall { success, .. }) => {
                self.tool_calls += 1;
                self.tool_successes += u64::from(*success);
                snapshot.tool_accuracy = Some(self.tool_successes as f64 / self.tool_calls as f64);
            }
            _ => {}
        }
        snapshot.total_cost_usd += self.costs.change(event);
    }
}
