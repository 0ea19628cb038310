use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

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

/// The tokens and cost of a model call.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LlmUsage {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The cost, if known.
    pub cost_usd: Option<Usd>,
}

/// Converts method calls to events; the basis of the adapters' `on_…` methods.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn EventSink>,
    seen: Arc<Mutex<RunTally>>,
}

impl Recorder {
    /// Creates a recorder that sends events to `sink`, with the time of the system clock.
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self::with_clock(sink, Arc::new(SystemClock))
    }

    /// Creates a recorder that sends events to `sink`, with the time of `clock`.
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

    /// Resets the totals.
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
    /// Creates a recorder that only updates the snapshot.
    fn default() -> Self {
        Self::new(Arc::new(|_| {}))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

/// A run in progress. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct Run {
    recorder: Recorder,
    open: OpenRun<()>,
    depth: u32,
    /// Number of spans recorded in the run.
    spans: AtomicU64,
    ended: bool,
}

impl Run {
    /// Returns the task of the run's events.
    pub fn task(&self) -> &str {
        &self.open.task
    }

    /// Returns the current time of the recorder's clock.
    pub fn now(&self) -> Timestamp {
        self.recorder.clock.now()
    }

    /// Records an event of this run.
    pub fn record(&self, event: impl Into<Event>) {
        let number = self.spans.fetch_add(1, Ordering::Relaxed).to_string();
        let mut event = self.open.native_event(self.now(), &number, None, event);
        event.native_id = None;
        self.recorder.send(event);
    }

    /// Records the end of a step, with its start time if known.
    pub fn step(&self, name: &str, kind: &str, error: Option<&str>, started: Option<Timestamp>) {
        let mut step = StepFinished::new(name, kind).with_error(error.map(str::to_owned));
        step.duration_ms = started.map(|started| self.now().millis_since(started));
        self.record(step);
    }

    /// Records a tool call, which failed if `error` is given.
    pub fn tool_call(&self, tool: &str, error: Option<&str>) {
        self.record(ToolCall::new(tool).with_error(error.map(str::to_owned)));
    }

    /// Records a model call. A negative cost is dropped and counted.
    pub fn llm_call(&self, usage: LlmUsage) {
        let mut call = LlmCall::new(None);
        (call.input_tokens, call.output_tokens) = (usage.input_tokens, usage.output_tokens);
        call.cost_usd = usage.cost_usd.filter(|cost| !cost.is_negative());
        if call.cost_usd != usage.cost_usd {
            lock(&self.recorder.seen).snapshot.invalid += 1;
        }
        self.record(call);
    }

    /// Records a handoff of the task from one agent to another.
    pub fn handoff(&mut self, from: &str, to: &str) {
        self.depth = Handoff::MAX_DEPTH.min(self.depth + 1);
        let mut handoff = Handoff::new(from, to);
        handoff.depth = self.depth;
        self.record(handoff);
    }

    /// Records the result of a guardrail or policy check.
    pub fn policy_check(&self, policy: &str, compliant: bool) {
        self.record(PolicyCheck::new(policy, compliant));
    }

    /// Ends the run. With an error it counts as failed, even if `success` is true.
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

/// Totals of an adapter's runs; `None` without data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdapterSnapshot {
    /// Finished tasks.
    pub tasks: u64,
    /// Share of tasks that succeeded.
    pub task_success_rate: Option<f64>,
    /// Cost of the tasks: a task's own cost if reported, otherwise the sum of its model calls.
    pub total_cost_usd: Usd,
    /// Mean duration of the tasks, in milliseconds.
    pub avg_duration_ms: Option<f64>,
    /// Share of tool calls that succeeded.
    pub tool_accuracy: Option<f64>,
    /// Negative costs that were dropped.
    pub invalid: u64,
}

/// Sums from which the means of the snapshot are computed.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_cost_is_dropped_and_counted() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let recorder = Recorder::new(Arc::new(move |event: AgentEvent| lock(&sink).push(event)));
        let run = recorder.start("support");
        for cost in [-5_000_000_000, 2_000_000_000] {
            run.llm_call(LlmUsage { cost_usd: Some(Usd::from_nanos(cost)), ..LlmUsage::default() });
        }
        run.end(true, None);
        let costs: Vec<_> = lock(&events)
            .iter()
            .filter_map(|event| match &event.event {
                Event::LlmCall(call) => Some(call.cost_usd),
                _ => None,
            })
            .collect();
        assert_eq!(costs, [None, Some(Usd::from_nanos(2_000_000_000))]);
        let snapshot = recorder.snapshot();
        assert_eq!((snapshot.invalid, snapshot.total_cost_usd), (1, Usd::from_nanos(2_000_000_000)));
    }
}
