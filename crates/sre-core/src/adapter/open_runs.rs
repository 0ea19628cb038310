use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{TaskFinished, TaskStarted};
use crate::{AgentEvent, Event, SpanId, StateError, StateReader, StateWriter, Timestamp, TraceId};

/// How much an adapter may hold, and how long a run may take.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// A run that has not ended this long after its start is closed as incomplete.
    pub task_timeout: Duration,
    /// At most so many runs are open; the oldest is closed as incomplete to make room.
    pub max_open_runs: usize,
}

impl Default for RunLimits {
    /// Ten minutes, and 10,000 runs.
    fn default() -> Self {
        Self { task_timeout: Duration::from_secs(600), max_open_runs: 10_000 }
    }
}

/// The runs that have begun and not ended, with an adapter's own state for each.
#[derive(Debug)]
pub struct OpenRuns<S> {
    limits: RunLimits,
    runs: FxHashMap<String, OpenRun<S>>,
    by_start: BTreeSet<(Timestamp, String)>,
    evicted: u64,
}

/// A run that has started and not ended.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenRun<S> {
    /// The agent.
    pub agent: String,
    /// The task that the run is.
    pub task: String,
    /// When it started.
    pub started: Timestamp,
    /// The trace of all its events.
    pub trace_id: Option<TraceId>,
    /// The span of the run itself, which its start and end carry.
    pub span_id: Option<SpanId>,
    /// The span that the run was called from.
    pub parent_span_id: Option<SpanId>,
    /// The framework's own id of the run, which its start and end carry.
    pub native_id: Option<String>,
    /// The adapter's own state.
    pub state: S,
}

impl<S> OpenRuns<S> {
    /// No runs yet.
    pub fn new(limits: RunLimits) -> Self {
        Self { limits, runs: FxHashMap::default(), by_start: BTreeSet::new(), evicted: 0 }
    }

    /// Opens a run under `key`. A run of the same key, or the oldest where there are too many, is closed as incomplete
    /// and returned.
    pub fn open(&mut self, key: &str, run: OpenRun<S>) -> Option<(Timestamp, OpenRun<S>)> {
        let at = run.started;
        let displaced = if self.runs.contains_key(key) {
            self.close(key)
        } else if self.runs.len() >= self.limits.max_open_runs.max(1) {
            self.evicted += 1;
            let oldest = self.by_start.first().map(|(_, key)| key.clone());
            oldest.and_then(|key| self.close(&key))
        } else {
            None
        };
        self.by_start.insert((run.started, key.to_owned()));
        self.runs.insert(key.to_owned(), run);
        displaced.map(|run| (at, run))
    }

    /// The open run under `key`.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut OpenRun<S>> {
        self.runs.get_mut(key)
    }

    /// The run under `key` has ended: it is no longer open.
    pub fn close(&mut self, key: &str) -> Option<OpenRun<S>> {
        let run = self.runs.remove(key)?;
        self.by_start.remove(&(run.started, key.to_owned()));
        Some(run)
    }

    /// Removes the runs whose time-out has passed at `now`, each with the moment it passed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Timestamp, OpenRun<S>)> {
        let mut expired = Vec::new();
        while let Some((started, _)) = self.by_start.first() {
            let deadline = started.saturating_add(self.limits.task_timeout);
            if deadline >= now {
                break;
            }
            if let Some((_, key)) = self.by_start.pop_first()
                && let Some(run) = self.runs.remove(&key)
            {
                expired.push((deadline, run));
            }
        }
        expired
    }

    /// Removes every run, the oldest first.
    pub fn drain(&mut self) -> Vec<OpenRun<S>> {
        std::mem::take(&mut self.by_start).into_iter().filter_map(|(_, key)| self.runs.remove(&key)).collect()
    }

    /// Writes the open runs.
    pub fn save(&self, state: &mut StateWriter)
    where
        S: Serialize,
    {
        let runs = self.by_start.iter().filter_map(|(_, key)| Some((key, self.runs.get(key)?)));
        state.put(&(self.evicted, runs.collect::<Vec<_>>()));
    }

    /// Takes up what was saved.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>
    where
        S: DeserializeOwned,
    {
        let (evicted, runs): (u64, Vec<(String, OpenRun<S>)>) = state.take()?;
        self.evicted = evicted;
        self.by_start = runs.iter().map(|(key, run)| (run.started, key.clone())).collect();
        self.runs = runs.into_iter().collect();
        Ok(())
    }

    /// The open runs, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OpenRun<S>)> {
        self.runs.iter().map(|(key, run)| (key.as_str(), run))
    }

    /// How many runs are open.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// True when no run is open.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many runs were closed to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl<S> OpenRun<S> {
    /// Returns a run without ids.
    pub fn new(agent: impl Into<String>, task: impl Into<String>, started: Timestamp, state: S) -> Self {
        Self {
            agent: agent.into(),
            task: task.into(),
            started,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            native_id: None,
            state,
        }
    }

    /// Returns a run of a framework whose ids are not those of the W3C trace context: the ids of its trace and its span
    /// stand for `native_id`.
    pub fn native(agent: impl Into<String>, native_id: &str, started: Timestamp, state: S) -> Self {
        Self {
            trace_id: Some(TraceId::from_native(native_id)),
            span_id: Some(SpanId::from_native(native_id, native_id)),
            native_id: Some(native_id.to_owned()),
            ..Self::new(agent, native_id, started, state)
        }
    }

    /// Returns an event inside this run.
    pub fn event(&self, time: Timestamp, event: impl Into<Event>) -> AgentEvent {
        let mut event = AgentEvent::new(time, self.agent.clone(), event).of_task(self.task.clone());
        event.trace_id = self.trace_id;
        event
    }

    /// Returns the event of a span inside this run, which the framework calls `native_id`; of its parent too, whose
    /// absence means the run itself.
    pub fn native_event(
        &self,
        time: Timestamp,
        native_id: &str,
        parent: Option<&str>,
        event: impl Into<Event>,
    ) -> AgentEvent {
        let mut event = self.event(time, event);
        event.span_id = Some(SpanId::from_native(&self.task, native_id));
        event.parent_span_id = parent.map(|parent| SpanId::from_native(&self.task, parent)).or(self.span_id);
        event.native_id = Some(native_id.to_owned());
        event
    }

    fn root_event(&self, time: Timestamp, event: impl Into<Event>) -> AgentEvent {
        let mut event = self.event(time, event);
        event.span_id = self.span_id;
        event.parent_span_id = self.parent_span_id;
        event.native_id.clone_from(&self.native_id);
        event
    }

    /// Returns the start of the run.
    pub fn started(&self, name: Option<String>) -> AgentEvent {
        self.root_event(self.started, TaskStarted::new(name))
    }

    /// Returns the end of the run at `time`, with `error` where it failed.
    pub fn finished(&self, time: Timestamp, error: Option<String>) -> AgentEvent {
        let mut finished = TaskFinished::new(true).with_error(error);
        finished.duration_ms = Some(time.millis_since(self.started));
        self.root_event(time, finished)
    }

    /// Returns the end, at `time`, of a run whose own end never came: failed, and marked as incomplete.
    pub fn incomplete(&self, time: Timestamp) -> AgentEvent {
        let mut event = self.finished(time, Some("incomplete: the task never ended".to_owned()));
        event.attributes.insert("incomplete".to_owned(), Value::Bool(true));
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: i64) -> OpenRun<()> {
        OpenRun::new("a", started.to_string(), Timestamp::from_secs(started), ())
    }

    #[test]
    fn runs_time_out_in_the_order_they_began() {
        let mut runs = OpenRuns::new(RunLimits { task_timeout: Duration::from_secs(60), ..Default::default() });
        for started in [30, 10, 20] {
            runs.open(&started.to_string(), run(started));
        }
        assert!(runs.expire(Timestamp::from_secs(70)).is_empty());
        let expired: Vec<_> =
            runs.expire(Timestamp::from_secs(81)).into_iter().map(|(at, run)| (at, run.task)).collect();
        assert_eq!(expired, [(Timestamp::from_secs(70), "10".into()), (Timestamp::from_secs(80), "20".into())]);
        assert_eq!(runs.drain().len(), 1);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut runs = OpenRuns::new(RunLimits { max_open_runs: 2, ..Default::default() });
        assert!(runs.open("1", run(1)).is_none() && runs.open("2", run(2)).is_none());
        assert_eq!(runs.open("3", run(3)).unwrap().1.task, "1");
        assert_eq!((runs.len(), runs.evicted()), (2, 1));
    }
}
