use serde_json::value::RawValue;
use sre_core::adapter::{AdapterError, IngestLimits, OpenSpan, SpanAdapter, SpanEnd, SpanKind};
use sre_core::event::{PolicyCheck, StringLimiter};
use sre_core::{AgentEvent, arguments_hash};

use crate::manual::CrewRun;
use crate::wire::Line;

sre_core::span_adapter! {
    /// Reads the events of CrewAI's event bus, and creates the same events for manual recording.
    ///
    /// A crew's run is known by the id of its start event; what happens inside is linked to it by the id of the crew's task,
    /// because events in between may not serialize and then have no ids.
    pub struct CrewAiAdapter {}
    step_kind: "agent_task",
}

impl CrewAiAdapter {
    /// Starts a run of a crew. Its events are recorded through the returned handle.
    pub fn on_crew_start(&self, crew: &str) -> CrewRun {
        CrewRun::new(self.recorder.start(crew))
    }

    fn crew_ended(&mut self, line: &Line<'_>, error: Option<String>, emit: &mut dyn FnMut(AgentEvent)) {
        let run = line.started_event_id.clone().or_else(|| {
            // An output that does not serialize leaves no id. If only one run is open, it is the one.
            let mut open = self.runs.tracker().iter().map(|(key, _)| key.to_owned());
            open.next().filter(|_| open.next().is_none())
        });
        match run {
            Some(run) => self.runs.end_run(&run, line.time, error, emit),
            None => self.runs.tracker().counts.unmatched += 1,
        }
    }

    /// Starts a span in the run of `parent`, which may be the run itself.
    fn start(&mut self, parent: Option<&str>, id: Option<&str>, mut span: OpenSpan, emit: &mut dyn FnMut(AgentEvent)) {
        let run = parent.and_then(|parent| self.runs.run_of(parent)).map(str::to_owned);
        let (Some(run), Some(id)) = (run, id) else {
            self.runs.tracker().counts.unmatched += 1;
            return;
        };
        span.parent = parent.filter(|parent| *parent != run).map(str::to_owned);
        self.runs.start_span(&run, id, span, emit);
    }

    /// Ends a span. CrewAI reports a failure of a model call twice.
    fn end(
        &mut self,
        id: Option<&str>,
        line: &Line<'_>,
        end: SpanEnd,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        match id.filter(|id| self.runs.span_mut(id).is_some()) {
            Some(id) => self.runs.end_span(id, line.time, end, emit),
            None => {
                self.runs.tracker().counts.repeated += 1;
                Ok(())
            }
        }
    }

    /// Returns the open call of a tool that has failed, which the event of a failure does not name.
    fn failed_tool(&self, line: &Line<'_>) -> Option<String> {
        let arguments = line.tool_args.map(RawValue::get).map(arguments_hash);
        let run = self.runs.run_of(line.task_id.as_deref()?)?;
        self.runs.find_span(run, |span| {
            span.kind == SpanKind::Tool
                && line.tool_name.as_ref() == Some(&span.name)
                && span.arguments_hash == arguments
        })
    }
}

impl SpanAdapter for CrewAiAdapter {
    fn read(
        &mut self,
        record: &[u8],
        limits: &IngestLimits,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> Result<(), AdapterError> {
        let mut line: Line<'_> = serde_json::from_slice(record)?;
        self.runs.advance(line.time, limits, emit)?;
        let mut limiter = StringLimiter::default();
        line.limit_strings(&mut limiter);
        self.runs.tracker().counts.shortened += limiter.shortened;
        let task = line.task_id.as_deref();
        let parent = task.or(line.parent_event_id.as_deref());
        match &*line.kind {
            "crew_kickoff_started" => match line.event_id.as_deref() {
                Some(id) => {
                    let agent = line.agent.as_deref().or(line.crew_name.as_deref());
                    self.runs.start_run(id, agent, line.time, emit);
                }
                None => self.runs.tracker().counts.unmatched += 1,
            },
            "crew_kickoff_completed" => self.crew_ended(&line, None, emit),
            "crew_kickoff_failed" => self.crew_ended(&line, Some(line.error()), emit),
            "task_started" => {
                let span = OpenSpan::new(SpanKind::Step, line.task_name.clone().unwrap_or_default(), line.time);
                self.start(line.parent_event_id.as_deref(), task, span, emit);
            }
            "task_completed" => self.end(task, &line, SpanEnd::default(), emit)?,
            "task_failed" => self.end(task, &line, line.failed(), emit)?,
            "llm_call_started" => {
                // A task's own events do not name its agent.
                if let (Some(task), Some(role)) = (task.and_then(|task| self.runs.span_mut(task)), &line.agent_role) {
                    task.name.clone_from(role);
                }
                let mut span = OpenSpan::new(SpanKind::Model, "", line.time);
                span.model.clone_from(&line.model);
                self.start(parent, line.call_id.as_deref(), span, emit);
            }
            "llm_stream_chunk" => {
                if let Some(span) = line.call_id.as_deref().and_then(|id| self.runs.span_mut(id)) {
                    span.first_token.get_or_insert(line.time);
                }
            }
            "llm_call_completed" => self.end(line.call_id.as_deref(), &line, line.end(), emit)?,
            "llm_call_failed" => self.end(line.call_id.as_deref(), &line, line.failed(), emit)?,
            "tool_usage_started" => {
                let mut span = OpenSpan::new(SpanKind::Tool, line.tool_name.clone().unwrap_or_default(), line.time);
                span.arguments_hash = line.tool_args.map(RawValue::get).map(arguments_hash);
                self.start(parent, line.event_id.as_deref(), span, emit);
            }
            "tool_usage_finished" => self.end(line.started_event_id.as_deref(), &line, line.end(), emit)?,
            // It often holds an exception, and does not serialize. Then the event of the failure, which follows, has it.
            "tool_usage_error" if line.event_id.is_none() => {}
            "tool_usage_error" => self.end(line.started_event_id.as_deref(), &line, line.failed(), emit)?,
            "tool_failure_detected" => {
                let call = self.failed_tool(&line);
                self.end(call.as_deref(), &line, line.failed(), emit)?;
            }
            "llm_guardrail_completed" => {
                let run = parent.and_then(|parent| self.runs.run_of(parent)).unwrap_or_default().to_owned();
                let check = PolicyCheck::new("guardrail", line.success.unwrap_or(false));
                self.runs.event(&run, (line.event_id.as_deref().unwrap_or_default(), task), line.time, check, emit)?;
            }
            kind if is_unused(kind) => {}
            _ => self.runs.tracker().counts.unknown += 1,
        }
        Ok(())
    }
}

/// Returns whether an event only wraps or repeats others, or has a meaning that no agent event has.
fn is_unused(kind: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "agent_",
        "flow_",
        "method_",
        "task_",
        "crew_",
        "memory_",
        "knowledge_",
        "llm_",
        "tool_",
        "lite_agent_",
        "mcp_",
        "a2a_",
    ];
    PREFIXES.iter().any(|prefix| kind.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use sre_core::{Adapter, Event};

    use super::*;

    fn read(lines: &[&str]) -> Vec<Event> {
        let (mut adapter, mut events) = (CrewAiAdapter::default(), Vec::new());
        for line in lines {
            adapter.ingest(line.as_bytes(), &mut |event| events.push(event.event)).unwrap();
        }
        adapter.finish(&mut |event| events.push(event.event));
        events
    }

    const STARTED: &str = r#"{"type":"crew_kickoff_started","time":1,"event_id":"k","crew_name":"c"}"#;
    const TASK: &str =
        r#"{"type":"task_started","time":2,"event_id":"t","parent_event_id":"k","task_id":"T","task_name":"find"}"#;

    #[test]
    fn an_end_that_does_not_serialize_ends_the_only_open_run() {
        let events = read(&[STARTED, r#"{"type":"crew_kickoff_completed","time":3,"unserialisable":"x"}"#]);
        assert_eq!(events[1].outcome(), Some(true));
    }

    #[test]
    fn a_failed_tool_counts_once_whether_its_event_serializes_or_not() {
        let tool = r#"{"type":"tool_usage_started","time":3,"event_id":"u","task_id":"T","tool_name":"search","tool_args":{"q":1}}"#;
        let error = r#"{"type":"tool_usage_error","time":4,"event_id":"e","started_event_id":"u","task_id":"T","error":"down"}"#;
        let failure = r#"{"type":"tool_failure_detected","time":5,"event_id":"f","task_id":"T","tool_name":"search","tool_args":{"q":1},"failure":{"message":"down"}}"#;
        for lines in [&[STARTED, TASK, tool, error, failure][..], &[STARTED, TASK, tool, failure]] {
            let events = read(lines);
            let failed = events
                .iter()
                .filter(|event| matches!(event, Event::ToolCall(call) if call.error.as_deref() == Some("down")));
            assert_eq!(failed.count(), 1, "{events:?}");
        }
    }

    #[test]
    fn a_step_is_named_after_the_role_of_its_agent() {
        let call =
            r#"{"type":"llm_call_started","time":3,"call_id":"c","task_id":"T","agent_role":"researcher","model":"m"}"#;
        let events = read(&[STARTED, TASK, call, r#"{"type":"task_completed","time":4,"task_id":"T"}"#]);
        let step =
            events.iter().find_map(|event| if let Event::StepFinished(step) = event { Some(&step.name) } else { None });
        assert_eq!(step.unwrap(), "researcher");
    }
}
