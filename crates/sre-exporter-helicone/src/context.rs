use sre_core::{AgentEvent, TraceId};

/// What a model call belongs to.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallContext {
    /// The agent; empty if unknown. The session's name and the beginning of its path, and the property `Agent`.
    pub agent: String,
    /// The task. The session, and the property `Task`.
    pub task: Option<String>,
    /// The trace. The session if there is no task, and the property `Trace-Id`.
    pub trace_id: Option<TraceId>,
    /// What the agent is doing, from the outside in, such as `plan` and `search`: the rest of the session's path.
    pub steps: Vec<String>,
    /// The request's id in Helicone, a UUID chosen by the caller, so that events may name it (`helicone_id`) before the
    /// response arrives. Without one, Helicone returns its own as `helicone-id`.
    pub request_id: Option<String>,
    /// The user on whose behalf the call is made.
    pub user_id: Option<String>,
}

impl CallContext {
    /// Returns the context of an event: its agent, task and trace.
    pub fn of(event: &AgentEvent) -> Self {
        Self { agent: event.agent.clone(), task: event.task.clone(), trace_id: event.trace_id, ..Self::default() }
    }

    pub(crate) fn session_id(&self) -> Option<String> {
        self.task.clone().or_else(|| self.trace_id.map(|id| id.to_string()))
    }

    /// Returns the path of the call in its session, such as `/support/plan`.
    pub(crate) fn session_path(&self) -> String {
        let names = std::iter::once(&self.agent).chain(&self.steps).filter(|name| !name.is_empty());
        // A slash within a name would be another level.
        let path: String = names.map(|name| format!("/{}", name.replace('/', "_"))).collect();
        if path.is_empty() { "/".to_owned() } else { path }
    }
}
