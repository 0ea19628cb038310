//! The responses and streams of the official A2A types.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use a2a_types::{
    A2AError, AgentCard, Artifact, ListTaskPushNotificationConfigsResponse, ListTasksResponse, Message,
    SendMessageResponse, StreamResponse, Task, TaskPushNotificationConfig, TaskState,
};
use futures_util::Stream;
use futures_util::stream::BoxStream;

use crate::a2a::TaskUpdate;
use crate::protocol_span::ProtocolSpan;

/// The events of a call that streams.
pub(crate) type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

/// What a span records of a response.
pub(crate) trait Response {
    /// Returns what it tells of the task that the call is about.
    fn update(&self) -> TaskUpdate<'_> {
        TaskUpdate::default()
    }
}

impl Response for Task {
    fn update(&self) -> TaskUpdate<'_> {
        TaskUpdate {
            task_id: Some(&self.id),
            context_id: Some(&self.context_id),
            state: state_name(&self.status.state),
            artifacts: self.artifacts.as_ref().map_or(0, Vec::<Artifact>::len),
            new_artifacts: 0,
        }
    }
}

impl Response for Message {
    fn update(&self) -> TaskUpdate<'_> {
        let (task_id, context_id) = (self.task_id.as_deref(), self.context_id.as_deref());
        TaskUpdate { task_id, context_id, ..TaskUpdate::default() }
    }
}

impl Response for SendMessageResponse {
    fn update(&self) -> TaskUpdate<'_> {
        match self {
            Self::Task(task) => task.update(),
            Self::Message(message) => message.update(),
        }
    }
}

impl Response for StreamResponse {
    fn update(&self) -> TaskUpdate<'_> {
        match self {
            Self::Task(task) => task.update(),
            Self::Message(message) => message.update(),
            Self::StatusUpdate(event) => TaskUpdate {
                task_id: Some(&event.task_id),
                context_id: Some(&event.context_id),
                state: state_name(&event.status.state),
                ..TaskUpdate::default()
            },
            Self::ArtifactUpdate(event) => TaskUpdate {
                task_id: Some(&event.task_id),
                context_id: Some(&event.context_id),
                new_artifacts: usize::from(event.append != Some(true)),
                ..TaskUpdate::default()
            },
        }
    }
}

impl Response for ListTasksResponse {}
impl Response for TaskPushNotificationConfig {}
impl Response for ListTaskPushNotificationConfigsResponse {}
impl Response for AgentCard {}
impl Response for () {}

/// Ends the span of a call with its result.
pub(crate) fn finish<R: Response>(mut span: ProtocolSpan, result: Result<R, A2AError>) -> Result<R, A2AError> {
    match &result {
        Ok(response) => span.set_task(response.update()),
        Err(error) => fail(&mut span, error),
    }
    span.end();
    result
}

/// Lets the span of a call that streams end with the stream.
pub(crate) fn finish_stream(mut span: ProtocolSpan, result: Result<Events, A2AError>) -> Result<Events, A2AError> {
    match result {
        Ok(events) => Ok(Box::pin(TracedStream { events, span: Some(span) })),
        Err(error) => {
            fail(&mut span, &error);
            span.end();
            Err(error)
        }
    }
}

fn fail(span: &mut ProtocolSpan, error: &A2AError) {
    span.record.set_rpc_error(error.code.into(), &error.message);
    span.has_outcome = true;
}

/// A stream whose span ends with it. A reader who leaves after the last state of the task has not cancelled the call.
struct TracedStream {
    events: Events,
    span: Option<ProtocolSpan>,
}

impl Stream for TracedStream {
    type Item = Result<StreamResponse, A2AError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.events.as_mut().poll_next(context));
        match (&mut self.span, &event) {
            (Some(span), Some(Ok(event))) => {
                span.set_task(event.update());
                span.has_outcome |= is_last(event);
            }
            (Some(span), Some(Err(error))) => fail(span, error),
            (span, None) => _ = span.take().map(ProtocolSpan::end),
            (None, _) => {}
        }
        Poll::Ready(event)
    }
}

/// Returns whether nothing needs to follow: a message, or a state in which the agent does not work on the task.
fn is_last(event: &StreamResponse) -> bool {
    let state = match event {
        StreamResponse::Message(_) => return true,
        StreamResponse::ArtifactUpdate(_) => return false,
        StreamResponse::Task(task) => &task.status.state,
        StreamResponse::StatusUpdate(event) => &event.status.state,
    };
    state.is_terminal() || matches!(state, TaskState::InputRequired | TaskState::AuthRequired)
}

fn state_name(state: &TaskState) -> Option<&'static str> {
    Some(match state {
        TaskState::Unspecified => return None,
        TaskState::Submitted => "TASK_STATE_SUBMITTED",
        TaskState::Working => "TASK_STATE_WORKING",
        TaskState::Completed => "TASK_STATE_COMPLETED",
        TaskState::Failed => "TASK_STATE_FAILED",
        TaskState::Canceled => "TASK_STATE_CANCELED",
        TaskState::InputRequired => "TASK_STATE_INPUT_REQUIRED",
        TaskState::Rejected => "TASK_STATE_REJECTED",
        TaskState::AuthRequired => "TASK_STATE_AUTH_REQUIRED",
    })
}
