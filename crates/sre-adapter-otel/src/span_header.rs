use serde::{Deserialize, Serialize};
use sre_core::event::{RecordedSpan, StringLimiter};
use sre_core::{SpanId, SpanRole};

use crate::attributes::Known;
use crate::dialects;
use crate::span::{ALLOCATION, RawSpan};

/// What a span has beside its events.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpanHeader {
    name: Box<str>,
    role: SpanRole,
    /// The index of the service that recorded it in the list of its trace; set once it belongs to one.
    pub(crate) service: Option<u16>,
    /// The parent in another process.
    pub(crate) remote_parent: Option<SpanId>,
    ids: Option<Box<CallIds>>,
}

/// What identifies a call between processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct CallIds {
    task: Option<String>,
    call_id: Option<String>,
    request_id: Option<String>,
    /// The agent that serves the call.
    agent: Option<String>,
    /// The number of the attempt.
    attempt: Option<u32>,
}

impl SpanHeader {
    pub(crate) fn of(raw: &RawSpan<'_>, known: &Known<'_>) -> Self {
        let request_id = known.owned(&[dialects::JSONRPC_REQUEST_ID]);
        let message = known.owned(&[dialects::A2A_MESSAGE_ID]);
        let request = || Some(format!("{}/{}", known.text(&[dialects::MCP_SESSION_ID])?, request_id.as_deref()?));
        let (task, call_id) = (known.owned(&[dialects::A2A_TASK_ID]), message.or_else(request));
        let agent = if raw.role == SpanRole::Server { known.owned(&[dialects::AGENT_NAME]) } else { None };
        let has_ids = [&task, &call_id, &request_id, &agent].into_iter().any(Option::is_some);
        Self {
            name: raw.name.into(),
            role: raw.role,
            service: None,
            remote_parent: raw.parent.filter(|_| raw.has_remote_parent),
            ids: has_ids.then(|| Box::new(CallIds { task, call_id, request_id, agent, attempt: None })),
        }
    }

    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let mut name = std::mem::take(&mut self.name).into_string();
        limiter.name(&mut name);
        self.name = name.into();
        if let Some(CallIds { task, call_id, request_id, agent, .. }) = self.ids.as_deref_mut() {
            limiter.names(task.iter_mut().chain(call_id).chain(request_id).chain(agent));
        }
    }

    /// Returns the approximate size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, |_| 4 * ALLOCATION + size_of::<CallIds>());
        size_of::<Self>() + 2 * ALLOCATION + self.text_size() + ids
    }

    pub(crate) fn text_size(&self) -> usize {
        let ids = self.ids.as_deref().map_or(0, |CallIds { task, call_id, request_id, agent, .. }| {
            [task, call_id, request_id, agent].into_iter().flatten().map(String::len).sum()
        });
        self.name.len() + ids
    }

    /// Sets the number of the attempt.
    pub(crate) fn set_attempt(&mut self, attempt: Option<u32>) {
        if attempt.is_some() {
            self.ids.get_or_insert_default().attempt = attempt;
        }
    }

    /// Returns the span as it was recorded, with its parent in this process, the agent that it names, and the services of its trace.
    pub(crate) fn recorded(&self, parent: Option<SpanId>, agent: Option<&str>, services: &[String]) -> RecordedSpan {
        let mut span = RecordedSpan::new(&*self.name);
        (span.role, span.parent_span_id) = (self.role, parent.or(self.remote_parent));
        span.agent = agent.map(str::to_owned);
        span.service = self.service.and_then(|number| services.get(usize::from(number))).cloned();
        if let Some(CallIds { task, call_id, request_id, agent, attempt }) = self.ids.as_deref().cloned() {
            (span.task, span.call_id, span.request_id, span.attempt) = (task, call_id, request_id, attempt);
            span.agent = span.agent.or(agent);
        }
        span
    }
}

/// Returns whether a service has a name of its own, which is not the default of an SDK.
pub(crate) fn is_named(service: &str) -> bool {
    !service.starts_with("unknown_service")
}
