use std::collections::HashSet;
use std::sync::Mutex;

use async_trait::async_trait;
use http::Method;
use http::header::CONTENT_TYPE;
use rustc_hash::FxHashSet;
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Event, EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter,
    SloSnapshot, Timestamp, Wants,
};

use crate::feedback::Feedback;
use crate::multipart::Multipart;
use crate::objectives::Objective;
use crate::run::{Operation, Run, rank};
use crate::run_id::RunId;
use crate::server::Server;
use crate::settings::{LangSmithSettings, NAME, Project};
use crate::traces::{Node, Traces};

/// Sends events and the state of objectives to LangSmith.
#[derive(Debug)]
pub struct LangSmithExporter {
    pub(crate) project: Project,
    server: Server,
    traces: Mutex<Traces>,
    /// The runs of objectives that LangSmith has.
    objectives: Mutex<HashSet<RunId>>,
}

/// Maximum number of cached runs of objectives. An evicted run is posted again, with the same id.
const MAX_OBJECTIVES: usize = 10_000;

/// The size that most runs stay below, in bytes.
const TYPICAL_RUN: usize = 2_048;

impl LangSmithExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: LangSmithSettings) -> Result<Self, InvalidExporter> {
        let project = Project::try_from(settings)?;
        Ok(Self { project, server: Server::default(), traces: Mutex::default(), objectives: Mutex::default() })
    }

    /// Sends the events in one request. If LangSmith has one of its runs already, from an earlier attempt, it accepts none of
    /// the request: each half is sent on its own then.
    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        match self.send_events(batch, http).await {
            Err(error) if is_conflict(&error) => {}
            result => return result,
        }
        if let [event] = batch.events {
            return self.resend_event(event, batch, http).await;
        }
        let mut report = ExportReport::default();
        let middle = batch.events.len() / 2;
        for range in [0..middle, middle..batch.events.len()] {
            let half = ExportBatch::new(batch.at, batch.resource).with_events(&batch.events[range.clone()]);
            report = report.and(match Box::pin(self.export_events(&half, http)).await {
                Ok(of_half) => of_half.offset(range.start),
                Err(error) => ExportReport::default().with_failed(&range.collect::<Vec<_>>(), &error),
            });
        }
        Ok(report)
    }

    /// Sends the end of a task as a patch of the run that LangSmith has already. Other events are complete there.
    async fn resend_event(
        &self,
        event: &AgentEvent,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let end = EventSpan::of(event).filter(|span| span.is_task);
        if let Some(span) = end.clone().or_else(|| EventSpan::started(event)) {
            lock(&self.traces).posted(span.trace_id, span.span_id);
        }
        if end.is_some() {
            match self.send_events(batch, http).await {
                // It has the patch, too.
                Err(error) if is_conflict(&error) => {}
                result => return result,
            }
        }
        Ok(ExportReport::accepted(1))
    }

    async fn send_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let invalid = |error| self.project.api.invalid(error);
        let mut form = Multipart::with_capacity(batch.events.len() * TYPICAL_RUN);
        let (runs, starts) = self.write_runs(batch, &mut form).map_err(invalid)?;
        let judgements = self.write_judgements(batch, &mut form, http).await?;
        let taken = runs + judgements;
        if taken > 0 {
            self.send(form, batch.at, http).await?;
            let mut traces = lock(&self.traces);
            starts.iter().for_each(|span| traces.posted(span.trace_id, span.span_id));
        }
        Ok(ExportReport::accepted(taken).with_ignored(batch.events.len() - taken))
    }

    /// Adds the runs of a batch. Returns the number of events that became runs, and the tasks that started.
    fn write_runs<'a>(
        &self,
        batch: &ExportBatch<'a>,
        form: &mut Multipart,
    ) -> Result<(usize, Vec<EventSpan<'a>>), serde_json::Error> {
        let (mut events, mut nodes) = (Vec::new(), Vec::new());
        for event in batch.events.iter().filter(|event| !event.event.is_assessment()) {
            if let Some(span) = EventSpan::started(event).or_else(|| EventSpan::of(event)) {
                events.push(event);
                nodes.push(Node { span, rank: rank(&event.event), kind: event.event.kind() });
            }
        }
        let key = |span: &EventSpan<'_>| (span.trace_id, span.span_id);
        let is_start = |event: &AgentEvent| matches!(event.event, Event::TaskStarted(_));
        let ends = nodes.iter().zip(&events).filter(|(node, event)| node.span.is_task && !is_start(event));
        let ends: FxHashSet<_> = ends.map(|(node, _)| key(&node.span)).collect();
        let mut traces = lock(&self.traces);
        let places = traces.place(&nodes);
        let mut starts = Vec::new();
        for ((Node { span, .. }, event), place) in nodes.iter().zip(&events).zip(&places) {
            let operation = match is_start(event) {
                // One run with start and end, as the vendor's own client combines them.
                true if ends.contains(&key(span)) => continue,
                false if span.is_task && traces.is_posted(span) => Operation::Patch,
                _ => Operation::Post,
            };
            if is_start(event) {
                starts.push(span.clone());
            }
            Run::of(event, span, place, operation, &self.project.name, batch.resource).write(form)?;
        }
        Ok((nodes.len(), starts))
    }

    /// Adds the evaluations and policy checks of a batch. Returns their number.
    async fn write_judgements(
        &self,
        batch: &ExportBatch<'_>,
        form: &mut Multipart,
        http: &dyn HttpClient,
    ) -> Result<usize, ExportError> {
        let mut judgements = Vec::new();
        for event in batch.events.iter().filter(|event| event.event.is_assessment()) {
            let Some(span) = EventSpan::of(event) else { continue };
            let subject = lock(&self.traces).subject(span.trace_id, event.parent_span_id);
            judgements.extend(Feedback::of(event, subject));
        }
        self.write_feedback(judgements, form, batch.at, http).await
    }

    pub(crate) async fn write_feedback(
        &self,
        feedback: Vec<Feedback<'_>>,
        form: &mut Multipart,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<usize, ExportError> {
        if feedback.is_empty() {
            return Ok(0);
        }
        let count = feedback.len();
        let session_id = self.server.session_id(&self.project, at, http).await?;
        for mut feedback in feedback {
            feedback.session_id.clone_from(&session_id);
            feedback.write(form).map_err(|error| self.project.api.invalid(error))?;
        }
        Ok(count)
    }

    /// Exports the state of objectives: a run per objective and day, and its scores at that time.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let objectives: Vec<&SloSnapshot> = batch.objectives().collect();
        if !objectives.is_empty() {
            match self.send_objectives(&objectives, batch.at, http).await {
                // LangSmith has one of the runs already, from an earlier process, and has accepted none of the request.
                Err(error) if is_conflict(&error) => {
                    for slo in &objectives {
                        self.send_objective(slo, batch.at, http).await?;
                    }
                }
                result => result?,
            }
        }
        Ok(ExportReport::accepted(objectives.len()).with_ignored(batch.snapshots.len() - objectives.len()))
    }

    /// Sends the state of an objective; as a patch, if LangSmith has its run already.
    async fn send_objective(&self, slo: &SloSnapshot, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        match self.send_objectives(&[slo], at, http).await {
            Err(error) if is_conflict(&error) => {}
            result => return result,
        }
        lock(&self.objectives).insert(Objective::new(slo, at, &self.project.name).id());
        match self.send_objectives(&[slo], at, http).await {
            // It has the patch, too.
            Err(error) if is_conflict(&error) => Ok(()),
            result => result,
        }
    }

    async fn send_objectives(
        &self,
        objectives: &[&SloSnapshot],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let mut form = Multipart::default();
        let (mut posted, mut feedback) = (Vec::new(), Vec::new());
        for slo in objectives {
            let objective = Objective::new(slo, at, &self.project.name);
            let is_known = lock(&self.objectives).contains(&objective.id());
            let operation = if is_known { Operation::Patch } else { Operation::Post };
            let run = objective.run(operation, &self.project.name);
            run.write(&mut form).map_err(|error| self.project.api.invalid(error))?;
            feedback.extend(objective.feedback());
            posted.push(objective.id());
        }
        self.write_feedback(feedback, &mut form, at, http).await?;
        self.send(form, at, http).await?;
        let mut known = lock(&self.objectives);
        if known.len() + posted.len() > MAX_OBJECTIVES {
            known.clear();
        }
        known.extend(posted);
        Ok(())
    }

    pub(crate) async fn send(&self, form: Multipart, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        let api = &self.project.api;
        let request = api.request(Method::POST, "/runs/multipart").header(CONTENT_TYPE, Multipart::content_type());
        let body = form.finish();
        let answer = if self.server.takes_gzip(&self.project, at, http).await? {
            api.send_gzip(request, &[&body], at, http).await
        } else {
            api.send(request, body, at, http).await
        };
        if answer.as_ref().is_err_and(|error| !error.is_temporary() && !is_conflict(error)) {
            // Perhaps because the project is no longer there. Its id is requested again with the next feedback.
            self.server.forget_session();
        }
        answer.map(drop)
    }
}

/// Returns whether LangSmith has a run of the request already.
fn is_conflict(error: &ExportError) -> bool {
    matches!(error, ExportError::Rejected { status: 409, .. })
}

#[async_trait]
impl Exporter for LangSmithExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS.and_snapshots()
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let report = self.export_objectives(batch, http).await?.with_ignored(batch.metrics.len());
        Ok(report.and(self.export_events(batch, http).await?))
    }
}
