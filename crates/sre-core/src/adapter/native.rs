use super::{Adapter, AdapterError, AdapterStats, IngestLimits, IngestReport, OpenRun, RunLimits, RunTracker};
use crate::event::StringLimiter;
use crate::{AgentEvent, Event, EventKind, StateError, StateReader, StateWriter, Timestamp};

/// Reads the native JSON Lines of agent-sre, and closes tasks that never end.
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
    /// Tasks closed by the time-out are remembered, because their own end may still arrive and must not count again.
    tasks: RunTracker<()>,
    key: String,
}

impl NativeAdapter {
    /// Creates an adapter without open tasks.
    pub fn new(limits: RunLimits) -> Self {
        Self { tasks: RunTracker::new(limits), key: String::new() }
    }

    fn start(&mut self, event: &AgentEvent, emit: &mut dyn FnMut(AgentEvent)) {
        let mut run = OpenRun::new(event.agent.clone(), event.task_key(), event.time, ());
        (run.trace_id, run.span_id, run.parent_span_id) = (event.trace_id, event.span_id, event.parent_span_id);
        run.native_id.clone_from(&event.native_id);
        let key = key_of(&mut self.key, &run.agent, &run.task);
        // The next end belongs to this task, not to an earlier task of the same name.
        self.tasks.forget(key);
        if let Some((at, displaced)) = self.tasks.open(key, run) {
            emit(displaced.incomplete(at));
        }
    }

    /// Completes the end of a task. Returns false if the time-out has already closed the task.
    fn finish_task(&mut self, event: &mut AgentEvent) -> bool {
        let key = key_of(&mut self.key, &event.agent, &event.task_key());
        match (self.tasks.close(key), &mut event.event) {
            (Some(run), Event::TaskFinished(finished)) => {
                finished.duration_ms.get_or_insert_with(|| event.time.millis_since(run.started));
                true
            }
            _ => !self.tasks.forget(key),
        }
    }
}

/// Returns the key of a task, made of its agent and name, in a reused buffer.
fn key_of<'a>(buffer: &'a mut String, agent: &str, task: &str) -> &'a str {
    buffer.clear();
    buffer.push_str(agent);
    buffer.push('\0');
    buffer.push_str(task);
    buffer
}

impl Adapter for NativeAdapter {
    fn ingest_record(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<IngestReport, AdapterError> {
        let mut event = AgentEvent::from_json(record)?;
        limits.check([event.time])?;
        let mut limiter = StringLimiter::default();
        event.limit_strings(&mut limiter);
        self.tasks.counts.shortened += limiter.shortened;
        if self.tasks.advance(event.time, limits) {
            self.expire(event.time, emit);
        }
        match event.event.kind() {
            EventKind::TaskStarted => self.start(&event, emit),
            EventKind::TaskFinished if !self.finish_task(&mut event) => {
                self.tasks.counts.unmatched += 1;
                return Ok(IngestReport::accepted());
            }
            EventKind::Unknown => {
                self.tasks.counts.unknown += 1;
                return Ok(IngestReport::accepted());
            }
            _ => {}
        }
        emit(event);
        Ok(IngestReport::accepted())
    }

    fn expire(&mut self, now: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
        for (deadline, run) in self.tasks.expire(now) {
            emit(run.incomplete(deadline));
            let key = key_of(&mut self.key, &run.agent, &run.task);
            self.tasks.remember(key, run);
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(AgentEvent)) {
        self.tasks.drain().into_iter().for_each(|(end, run)| emit(run.incomplete(end)));
    }

    fn save(&self, state: &mut StateWriter) {
        self.tasks.save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.tasks.restore(state)
    }

    fn stats(&self) -> AdapterStats {
        self.tasks.stats()
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
        assert_eq!(finished.len(), 1, "the late end is not counted again");
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

    /// The start and the end of a task are matched by their shortened names.
    #[test]
    fn long_names_are_shortened_and_still_tell_tasks_apart() {
        let long = "x".repeat(10_000);
        let line = |event: &str, time: u32, task: &str| {
            format!(r#"{{"event":"{event}","time":{time},"agent":"{long}","task":"{long}{task}","success":true}}"#)
        };
        let mut adapter = NativeAdapter::new(RunLimits::default());
        let mut events = Vec::new();
        for line in
            [line("task_started", 1_000, "1"), line("task_started", 1_001, "2"), line("task_finished", 1_003, "1")]
        {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
        }
        assert_eq!(events[2].event.duration_ms(), Some(3_000.0));
        assert!(events.iter().all(|event| event.agent.len() <= 256 && event.task.as_ref().unwrap().len() <= 256));
        assert_eq!((adapter.stats().open_runs, adapter.stats().shortened), (1, 6));
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
