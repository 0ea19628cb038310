//! Converts the spans of a trace to the events of its tasks.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use sre_core::adapter::{OpenRun, RunOutcome};
use sre_core::event::{Handoff, RecordedSpan, StepFinished};
use sre_core::{AgentEvent, Event, SpanId, Timestamp, TraceId};

use crate::dialects::Role;
use crate::span::Span;
use crate::span_header::is_named;

/// A trace that is not converted to events yet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    pub(crate) spans: Vec<Span>,
    pub(crate) service: Option<String>,
    /// When it is converted, a short time after its last root; `None` before that has arrived.
    pub(crate) settles_at: Option<Timestamp>,
    pub(crate) latest: Timestamp,
    /// The agent of the trace's first task, if that was converted before and these spans arrived later.
    pub(crate) follows: Option<String>,
    /// The services that recorded the spans, to which their headers refer; saved with these.
    #[serde(skip)]
    pub(crate) services: Vec<String>,
}

/// Maximum number of services of a trace; spans of further ones have no service.
const MAX_SERVICES: usize = 256;

/// Emits the events of a trace: for each task the start, the events inside it, and the end. A span without events is one of its own.
///
/// `closed_at` is the time at which a trace without a root is given up. Its task is incomplete; if these spans arrived
/// after the trace was converted, they have no task of their own.
///
/// The tree of the trace can be rebuilt from the events: each has the id of its span, and as its parent the nearest
/// ancestor that has events of an agent too. [`AgentEvent::span`] has the parent that was recorded.
pub(crate) fn emit(mut trace: Trace, closed_at: Timestamp, emit: &mut dyn FnMut(AgentEvent)) {
    let mut own: Vec<OwnEvents> = trace.spans.iter_mut().map(OwnEvents::take).collect();
    let trace = &trace;
    let tree = Tree::of(&trace.spans);
    let roots = tree.tasks();
    let mut tasks: Vec<Task<'_>> = roots.iter().enumerate().map(|(number, &root)| trace.task(number, root)).collect();
    let has_dialect = trace.spans.iter().any(|span| span.role.is_some_and(|role| role != Role::RemoteCall));
    // Where all roots have arrived, there are only requests of the Model Context Protocol, which are no tasks.
    let lacks_root = tree.missing_root().is_some() || trace.spans.iter().all(|span| span.parent.is_some());
    if tasks.is_empty() && trace.follows.is_none() && lacks_root {
        if !has_dialect && trace.settles_at.is_none() {
            return;
        }
        tasks.push(trace.rootless_task(closed_at, tree.missing_root()));
    }
    for task in &tasks {
        emit(task.run.started(Some(task.run.agent.clone())));
    }
    let elsewhere = trace.follows.as_deref().or(tasks.first().map(|task| &*task.run.agent)).or(trace.service());
    let elsewhere = elsewhere.unwrap_or("default").to_owned();
    let mut order: Vec<usize> = (0..trace.spans.len()).collect();
    order.sort_by_key(|&index| (trace.spans[index].end, trace.spans[index].start));
    tree.merge_resent(&order, &mut own);
    tree.count_attempts(&order, &mut own);
    tree.merge_executions(&mut own);
    let events_of = |index: usize| tree.events_of(index, has_dialect, &roots, std::mem::take(&mut own[index]));
    let mut events: Vec<Vec<Event>> = (0..trace.spans.len()).map(events_of).collect();
    let has_events: Vec<bool> =
        (0..events.len()).map(|index| !events[index].is_empty() || roots.contains(&index)).collect();
    for index in order {
        let span = &trace.spans[index];
        let only = (tasks.len() == 1 && trace.follows.is_none()).then_some(0);
        let position = tree.task_of(index, &roots).or(only);
        let parent = tree.ancestors(index).find(|&index| has_events[index]).map(|index| trace.spans[index].id);
        let of_task = position.filter(|&position| roots.get(position).is_none_or(|&root| !tree.is_below(root, index)));
        let of_task = of_task.and_then(|position| tasks[position].run.span_id).filter(|id| *id != span.id);
        let mut events = std::mem::take(&mut events[index]);
        if !roots.contains(&index) && events.iter().all(|event| matches!(event, Event::Evaluation(_))) {
            events.extend(span.finished());
        }
        for event in events {
            let time = if matches!(event, Event::Handoff(_)) { span.start } else { span.end };
            let mut event = match position.map(|position| &mut tasks[position]) {
                Some(task) => {
                    if let Event::LlmCall(call) = &event {
                        task.outcome.model_call(call.error.as_deref());
                    }
                    task.run.event(time, event)
                }
                None if trace.follows.is_some() => {
                    AgentEvent::new(time, elsewhere.clone(), event).of_task(trace.id.to_string())
                }
                None => AgentEvent::new(time, elsewhere.clone(), event),
            };
            event.trace_id = Some(trace.id);
            event.span_id = Some(span.id);
            event.parent_span_id = parent.or(of_task).or(span.parent);
            if !matches!(event.event, Event::Evaluation(_)) {
                event.span = trace.recorded(span, span.agent());
            }
            emit(event);
        }
    }
    for task in tasks {
        let root = task.root;
        let mut event = task.finished();
        event.span = root.and_then(|root| trace.recorded(root, Some(&event.agent)));
        emit(event);
    }
}

impl Trace {
    pub(crate) fn new(id: TraceId, service: Option<String>, follows: Option<String>) -> Self {
        let (spans, services, settles_at, latest) = Default::default();
        Self { id, spans, service, settles_at, latest, follows, services }
    }

    /// Sets the service that recorded a span, which is added later. Returns the memory that its name takes, in bytes.
    pub(crate) fn set_service(&mut self, span: &mut Span, service: &str) -> usize {
        let Some(header) = span.header.as_mut().filter(|_| is_named(service)) else { return 0 };
        let known = self.services.iter().position(|known| known == service);
        let number = known.unwrap_or(self.services.len());
        if number == MAX_SERVICES {
            return 0;
        }
        header.service = u16::try_from(number).ok();
        if known.is_some() {
            return 0;
        }
        self.services.push(service.to_owned());
        size_of::<String>() + service.len()
    }

    /// Returns a span as it was recorded, with the agent to which it belongs if it names one.
    fn recorded(&self, span: &Span, agent: Option<&str>) -> Option<Box<RecordedSpan>> {
        let mut recorded = span.header.as_ref()?.recorded(span.parent, agent, &self.services);
        (recorded.start, recorded.failed) = (Some(span.start), span.error.is_some());
        Some(Box::new(recorded))
    }

    /// Returns whether it has a root, or every span is below one of it or one that is known.
    pub(crate) fn is_complete(&self, is_known: impl Fn(SpanId) -> bool) -> bool {
        let ids: FxHashSet<SpanId> = self.spans.iter().map(|span| span.id).collect();
        let is_above = |parent: SpanId| ids.contains(&parent) || is_known(parent);
        self.spans.iter().any(Span::is_root)
            || self.spans.iter().all(|span| span.recorded_parent().is_none_or(is_above))
    }

    /// Drops spans that were received before, as after a request that was sent again. Returns their number.
    pub(crate) fn drop_repeated(&mut self) -> u64 {
        let (before, mut seen) = (self.spans.len(), FxHashSet::default());
        self.spans.retain(|span| seen.insert(span.id));
        (before - self.spans.len()) as u64
    }

    /// Returns the task of a root. The first task of a trace has the trace's id as its name; the others add their
    /// span's id.
    fn task(&self, number: usize, root: usize) -> Task<'_> {
        let span = &self.spans[root];
        let is_first = number == 0 && self.follows.is_none();
        let task = if is_first { self.id.to_string() } else { format!("{}-{}", self.id, span.id) };
        let agent = span.name.as_deref().or(self.service()).unwrap_or("default").to_owned();
        let mut run = OpenRun::new(agent, task, span.start, ());
        (run.trace_id, run.span_id, run.parent_span_id) = (Some(self.id), Some(span.id), span.parent);
        Task { run, root: Some(span), outcome: RunOutcome::default(), end: span.end }
    }

    /// Returns the task of a trace whose root, the span `missing`, never arrived.
    fn rootless_task(&self, closed_at: Timestamp, missing: Option<SpanId>) -> Task<'_> {
        let started = self.spans.iter().map(|span| span.start).min().unwrap_or(closed_at);
        let agents = self.spans.iter().filter(|span| span.role == Some(Role::Agent));
        let named = agents.filter_map(|span| span.name.as_deref()).next();
        let agent = named.or(self.service()).unwrap_or("default").to_owned();
        let mut run = OpenRun::new(agent, self.id.to_string(), started, ());
        (run.trace_id, run.span_id) = (Some(self.id), missing);
        Task { run, root: None, outcome: RunOutcome::default(), end: closed_at.max(self.latest) }
    }

    /// Returns the name of the service, unless it is the default name of an SDK.
    fn service(&self) -> Option<&str> {
        self.service.as_deref().filter(|service| is_named(service))
    }
}

/// The events of a span itself, without those that depend on its position in the tree.
#[derive(Default)]
struct OwnEvents {
    event: Option<Event>,
    evaluations: Vec<Event>,
}

impl OwnEvents {
    fn take(span: &mut Span) -> Self {
        Self { event: span.event.take().map(|event| *event), evaluations: std::mem::take(&mut span.evaluations) }
    }
}

struct Task<'a> {
    run: OpenRun<()>,
    /// `None` if it never arrived.
    root: Option<&'a Span>,
    outcome: RunOutcome,
    end: Timestamp,
}

impl Task<'_> {
    fn finished(mut self) -> AgentEvent {
        let Some(root) = self.root else { return self.run.incomplete(self.end) };
        if let Some(error) = &root.error {
            self.outcome.fail(error.clone());
        }
        self.run.finished(self.end, self.outcome.error())
    }
}

/// The spans of a trace as a call tree.
struct Tree<'a> {
    spans: &'a [Span],
    by_id: FxHashMap<SpanId, usize>,
    /// Spans with a model call below them: wrappers that repeat its usage.
    above_a_call: FxHashSet<usize>,
}

impl<'a> Tree<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let by_id = spans.iter().enumerate().map(|(index, span)| (span.id, index)).collect();
        let mut tree = Self { spans, by_id, above_a_call: FxHashSet::default() };
        for (index, span) in spans.iter().enumerate() {
            if span.role == Some(Role::ModelCall) {
                let above: Vec<usize> = tree.ancestors(index).collect();
                tree.above_a_call.extend(above);
            }
        }
        tree
    }

    fn parent(&self, index: usize) -> Option<usize> {
        self.spans[index].parent.and_then(|parent| self.by_id.get(&parent)).copied()
    }

    /// Returns the ancestors, nearest first. At most 256, because the spans of invalid input may be each other's
    /// parents.
    fn ancestors(&self, index: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.parent(index), |&index| self.parent(index)).take(256)
    }

    fn is_below(&self, index: usize, above: usize) -> bool {
        self.ancestors(index).any(|ancestor| ancestor == above)
    }

    /// Returns the parent of the first span whose parent never arrived.
    fn missing_root(&self) -> Option<SpanId> {
        let orphans = self.spans.iter().filter(|span| span.parent.is_some_and(|id| !self.by_id.contains_key(&id)));
        orphans.min_by_key(|span| span.start)?.parent
    }

    /// Merges a request that a client sent again into the requests before it, below the same span: they are attempts of one
    /// operation, whose event is that of the last attempt, from the start of the first. Its id is the span id of the first,
    /// which has no attribute that marks it.
    fn merge_resent(&self, order: &[usize], own: &mut [OwnEvents]) {
        let mut operations: FxHashMap<Option<SpanId>, (usize, usize)> = FxHashMap::default();
        for &index in order {
            let span = &self.spans[index];
            let (None, Some(Event::LlmCall(call))) = (span.role, &mut own[index].event) else { continue };
            let is_resent = call.attempt.is_some_and(|attempt| attempt > 1);
            let (first, last) = operations.get(&span.parent).copied().filter(|_| is_resent).unwrap_or((index, index));
            operations.insert(span.parent, (first, index));
            if first != index {
                call.operation_id = Some(self.spans[first].id.to_string());
                call.duration_ms = Some(span.end.millis_since(self.spans[first].start));
                own[last].event = None;
            }
        }
    }

    /// Makes a tool call and its execution, a span of its own, one call, which fails if either does.
    fn merge_executions(&self, own: &mut [OwnEvents]) {
        let is_execution = |role: Option<Role>| matches!(role, Some(Role::ToolExecution | Role::McpToolCall));
        for index in (0..self.spans.len()).filter(|&index| is_execution(self.spans[index].role)) {
            let around = self.ancestors(index).find(|&index| self.spans[index].role.is_some());
            let is_call = |&index: &usize| matches!(self.spans[index].role, Some(Role::ToolCall | Role::McpToolCall));
            let Some(call) = around.filter(is_call) else { continue };
            own[index].event = None;
            if let (Some(error), Some(Event::ToolCall(call))) = (&self.spans[index].error, &mut own[call].event) {
                call.success = false;
                call.error.get_or_insert_with(|| error.clone());
            }
        }
    }

    /// Numbers the attempt with which a model call ended, by the requests of its client below it: one more than those that
    /// failed and were sent to the same host as the last.
    fn count_attempts(&self, order: &[usize], own: &mut [OwnEvents]) {
        let mut requests: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
        for &index in order {
            let is_request = self.spans[index].role.is_none() && own[index].event.is_some();
            let call = self.parent(index).filter(|&parent| self.spans[parent].role == Some(Role::ModelCall));
            if let Some(call) = call.filter(|_| is_request) {
                requests.entry(call).or_default().push(index);
            }
        }
        for (index, requests) in requests {
            let url = |index: usize| match &own[index].event {
                Some(Event::HttpRequest(request)) => Some(request.url.as_str()),
                _ => None,
            };
            let failed = |index: usize| own[index].event.as_ref().and_then(Event::outcome) == Some(false);
            let last = requests[requests.len() - 1];
            let before =
                requests.iter().copied().filter(|&other| other != last && url(other) == url(last) && failed(other));
            let retries = before.count();
            if retries > 0
                && let Some(Event::LlmCall(call)) = &mut own[index].event
            {
                call.attempt = Some(u32::try_from(retries + 1).unwrap_or(u32::MAX));
                call.operation_id = Some(self.spans[index].id.to_string());
            }
        }
    }

    /// Returns the topmost spans that start a task, or the root of a trace without such spans. Only spans below a root that has
    /// arrived count; the topmost span of all others is still missing. A request of the Model Context Protocol is no task.
    fn tasks(&self) -> Vec<usize> {
        let starts = |index: usize| match self.spans[index].role {
            Some(Role::Agent) => true,
            Some(Role::Chain) => self.spans[index].parent.is_none(),
            _ => false,
        };
        let under_a_root = |index: usize| {
            let top = self.ancestors(index).last().unwrap_or(index);
            self.spans[top].parent.is_none()
        };
        let mut tasks: Vec<usize> = (0..self.spans.len())
            .filter(|&index| starts(index) && under_a_root(index) && !self.ancestors(index).any(starts))
            .collect();
        if tasks.is_empty() {
            let is_root = |&index: &usize| {
                let span = &self.spans[index];
                span.parent.is_none() && !span.role.is_some_and(Role::is_mcp)
            };
            tasks.extend((0..self.spans.len()).find(is_root));
        }
        tasks.sort_by_key(|&index| (self.spans[index].start, self.spans[index].id));
        tasks
    }

    /// Returns the index in `tasks` of the task that a span belongs to.
    fn task_of(&self, index: usize, tasks: &[usize]) -> Option<usize> {
        std::iter::once(index)
            .chain(self.ancestors(index))
            .find_map(|index| tasks.iter().position(|task| *task == index))
    }

    /// Returns the events of a span. If some spans have a dialect, those without one have no events of their own.
    fn events_of(&self, index: usize, has_dialect: bool, tasks: &[usize], own: OwnEvents) -> Vec<Event> {
        let mut events = own.evaluations;
        match self.spans[index].role {
            None if has_dialect => {}
            Some(Role::Agent) if !tasks.contains(&index) => self.nested_agent(index, &mut events),
            Some(Role::Chain) if tasks.contains(&index) => {}
            Some(Role::ModelCall) if self.above_a_call.contains(&index) => {}
            _ => events.extend(own.event),
        }
        events
    }

    /// An agent called by an agent is a step and a handoff. An agent with the same name as its caller is neither.
    fn nested_agent(&self, index: usize, events: &mut Vec<Event>) {
        let span = &self.spans[index];
        let is_agent = |index: &usize| self.spans[*index].role == Some(Role::Agent);
        let from = self.ancestors(index).find(is_agent).and_then(|caller| self.spans[caller].name.clone());
        if from.is_some() && from == span.name {
            return;
        }
        let name = span.name.clone().unwrap_or_else(|| "agent".to_owned());
        let depth = u32::try_from(self.ancestors(index).filter(is_agent).count()).unwrap_or(Handoff::MAX_DEPTH);
        if let Some(from) = from {
            let mut handoff = Handoff::new(from, &name);
            handoff.depth = depth.min(Handoff::MAX_DEPTH);
            events.push(handoff.into());
        }
        let mut step = StepFinished::new(name, "agent").with_error(span.error.clone());
        step.duration_ms = Some(span.end.millis_since(span.start));
        events.push(step.into());
    }
}
