use super::{Adapter, AdapterError, AdapterStats, OpenRun, OpenRuns, RunLimits};
use crate::event::TaskFinished;
use crate::{AgentEvent, Event, StateError, StateReader, StateWriter, Timestamp};

/// Reads the workspace's own JSON Lines, and closes the tasks in it that never end.
///
/// ```
/// use sre_core::{Adapter, NativeAdapter, RunLimits};
/// let mut adapter = NativeAdapter::new(RunLimits::default());
/// let mut events = Vec::new();
/// let line = br#"{"event":"task_started","time":1790000000,"agent":"support","task":"1"}"#;
/// adapter.ingest(line, &mut |event| events.push(event)).unwrap();
/// adapter.finish(&mut |event| events.push(event));
/// assert!(events[1].is_incomplete());
/// ```
#[derive(Debug)]
pub struct NativeAdapter {
    open: OpenRuns<()>,
    /// Tasks closed by time-out, whose own end may still come and must not count again.
    closed: OpenRuns<()>,
    latest: Timestamp,
    key: String,
    unknown: u64,
    unmatched: u64,
}

impl NativeAdapter {
    /// A reader with nothing open.
    pub fn new(limits: RunLimits) -> Self {
        Self {
            open: OpenRuns::new(limits),
            closed: OpenRuns::new(limits),
            latest: Timestamp::default(),
            key: String::new(),
            unknown: 0,
            unmatched: 0,
        }
    }

    fn close_overdue(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        for (deadline, run) in self.open.expire(now) {
            emit(run.incomplete(deadline));
            let key = key_of(&mut self.key, &run.agent, &run.task);
            self.closed.open(key, run);
        }
    }
}

/// The key of a task: its agent and its name, in a buffer that is used again.
fn key_of<'a>(buffer: &'a mut String, agent: &str, task: &str) -> &'a str {
    buffer.clear();
    buffer.push_str(agent);
    buffer.push('\0');
    buffer.push_str(task);
    buffer
}

impl Adapter for NativeAdapter {
    fn ingest(&mut self, record: &[u8], emit: &mut dyn FnMut(AgentEvent)) -> Result<(), AdapterError> {
        let mut event = AgentEvent::from_json(record)?;
        if event.time > self.latest {
            self.latest = event.time;
            if !self.open.is_empty() {
                self.close_overdue(self.latest, emit);
            }
        }
        match &mut event.event {
            Event::TaskStarted(_) => {
                let (agent, task) = (event.agent.clone(), event.task_key().into_owned());
                let key = key_of(&mut self.key, &agent, &task);
                // The end that comes next is this task's, not that of an earlier one of its name.
                self.closed.close(key);
                let mut run = OpenRun::new(agent, task, event.time, ());
                (run.trace_id, run.span_id, run.parent_span_id) = (event.trace_id, event.span_id, event.parent_span_id);
                run.native_id.clone_from(&event.native_id);
                if let Some((at, displaced)) = self.open.open(key, run) {
                    emit(displaced.incomplete(at));
                }
            }
            Event::TaskFinished(_) if !self.open.is_empty() || !self.closed.is_empty() => {
                let key = key_of(&mut self.key, &event.agent, &event.task_key());
                let started = self.open.close(key).map(|run| run.started);
                if started.is_none() && self.closed.close(key).is_some() {
                    self.unmatched += 1;
                    return Ok(());
                }
                if let (Some(started), Event::TaskFinished(TaskFinished { duration_ms, .. })) =
                    (started, &mut event.event)
                {
                    duration_ms.get_or_insert_with(|| event.time.millis_since(started));
                }
            }
            Event::Unknown(_) => {
                self.unknown += 1;
                return Ok(());
            }
            _ => {}
        }
        emit(event);
        Ok(())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        self.close_overdue(now, emit);
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        for run in self.open.drain() {
            emit(run.incomplete(self.latest.max(run.started)));
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.open.save(state);
        self.closed.save(state);
        state.put(&(self.latest, self.unknown, self.unmatched));
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.open.restore(state)?;
        self.closed.restore(state)?;
        (self.latest, self.unknown, self.unmatched) = state.take()?;
        Ok(())
    }

    fn stats(&self) -> AdapterStats {
        AdapterStats {
            latest: self.latest,
            open_runs: self.open.len(),
            evicted_runs: self.open.evicted(),
            unknown: self.unknown,
            unmatched: self.unmatched,
            ..AdapterStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<AgentEvent> {
        let mut adapter = NativeAdapter::new(RunLimits::default());
        let mut events = Vec::new();
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event));
        events
    }

    #[test]
    fn a_task_that_never_ends_is_closed_by_its_time_out() {
        let events = read(&[
            r#"{"event":"task_started","time":1000,"agent":"a","task":"slow"}"#,
            r#"{"event":"heartbeat","time":1700,"agent":"a"}"#,
            r#"{"event":"task_finished","time":1800,"agent":"a","task":"slow","success":true}"#,
        ]);
        let finished: Vec<_> = events.iter().filter(|event| event.event.outcome().is_some()).collect();
        assert_eq!(finished.len(), 1, "its own end came too late and counts once only");
        assert!(finished[0].is_incomplete());
        assert_eq!(finished[0].time, Timestamp::from_secs(1600));
    }

    #[test]
    fn a_name_may_be_used_again_after_a_time_out() {
        let events = read(&[
            r#"{"event":"task_started","time":1000,"agent":"a"}"#,
            r#"{"event":"task_started","time":1700,"agent":"a"}"#,
            r#"{"event":"task_finished","time":1701,"agent":"a","success":true}"#,
        ]);
        let outcomes: Vec<_> = events.iter().filter_map(|event| event.event.outcome()).collect();
        assert_eq!(outcomes, [false, true]);
    }

    #[test]
    fn overlapping_tasks_of_two_agents_are_kept_apart() {
        let events = read(&[
            r#"{"event":"task_started","time":1000,"agent":"a","task":"1"}"#,
            r#"{"event":"task_started","time":1001,"agent":"b","task":"1"}"#,
            r#"{"event":"task_finished","time":1003,"agent":"a","task":"1","success":true}"#,
        ]);
        assert_eq!(events[2].event.duration_ms(), Some(3000.0));
        assert!(events[3].is_incomplete() && events[3].agent == "b");
    }
}
