use std::collections::{BTreeMap, VecDeque};
use std::iter;
use std::sync::Arc;

use http::Method;
use sre_core::{AgentEvent, BackendApi, Event, EventSpan, ExportBatch, ExportError, ExportReport, HttpClient};
use sre_otlp::{Spans, send_spans};

use crate::assessment::Assessment;
use crate::experiment::{Experiment, rejected};
use crate::spans;

const SPANS: &str = "/v1/traces";

/// The events of one request.
#[derive(Debug)]
pub(crate) enum Unit<'a> {
    Spans(Vec<Item<'a>>),
    Assessment(Item<'a>, Assessment),
}

/// An event of a batch, by its place there.
#[derive(Clone, Debug)]
pub(crate) struct Item<'a> {
    index: usize,
    event: &'a AgentEvent,
    span: EventSpan<'a>,
}

/// Returns the requests of a batch, and the number of events that MLflow has no equivalent of.
pub(crate) fn units(events: &[Arc<AgentEvent>]) -> (VecDeque<Unit<'_>>, usize) {
    let (mut spans, mut units) = (Vec::new(), VecDeque::new());
    for (index, event) in events.iter().enumerate() {
        let Some(span) = EventSpan::of(event) else { continue };
        let item = Item { index, event, span };
        match &event.event {
            Event::Evaluation(_) | Event::PolicyCheck(_) => {
                let assessment = Assessment::of(event, &item.span);
                units.extend(assessment.map(|assessment| Unit::Assessment(item, assessment)));
            }
            _ => spans.push(item),
        }
    }
    let ignored = events.len() - spans.len() - units.len();
    if !spans.is_empty() {
        units.push_front(Unit::Spans(spans));
    }
    (units, ignored)
}

impl<'a> Unit<'a> {
    fn indices(&self) -> Vec<usize> {
        match self {
            Self::Spans(items) => items.iter().map(|item| item.index).collect(),
            Self::Assessment(item, _) => vec![item.index],
        }
    }

    /// Returns one unit for each trace.
    fn traces(self) -> Vec<Self> {
        let Self::Spans(items) = self else { return vec![self] };
        let mut traces: BTreeMap<_, Vec<Item<'a>>> = BTreeMap::new();
        items.into_iter().for_each(|item| traces.entry(item.span.trace_id).or_default().push(item));
        traces.into_values().map(Self::Spans).collect()
    }

    fn has_several_traces(&self) -> bool {
        let Self::Spans(items) = self else { return false };
        items.windows(2).any(|pair| pair[0].span.trace_id != pair[1].span.trace_id)
    }
}

/// Sends the events of a batch.
pub(crate) struct Sender<'a> {
    pub(crate) api: &'a BackendApi,
    pub(crate) experiment: &'a Experiment,
    pub(crate) batch: &'a ExportBatch<'a>,
    pub(crate) http: &'a dyn HttpClient,
}

impl Sender<'_> {
    /// Sends units in order. Fails only if nothing was accepted.
    pub(crate) async fn send_all(&self, mut units: VecDeque<Unit<'_>>) -> Result<ExportReport, ExportError> {
        let (mut report, mut first_error) = (ExportReport::default(), None);
        while let Some(unit) = units.pop_front() {
            match self.send(&unit).await {
                Ok(part) => report = report.and(part),
                // MLflow accepts all or nothing, and does not report which trace is at fault.
                Err(ExportError::Rejected { status: 400 | 422, .. }) if unit.has_several_traces() => {
                    unit.traces().into_iter().rev().for_each(|trace| units.push_front(trace));
                }
                Err(error) if error.is_temporary() => {
                    if report == ExportReport::default() {
                        return Err(error);
                    }
                    let mut places: Vec<usize> = iter::once(&unit).chain(&units).flat_map(Unit::indices).collect();
                    places.sort_unstable();
                    return Ok(report.with_failed(&places, &error));
                }
                Err(error) => {
                    report = report.with_failed(&unit.indices(), &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.filter(|_| report.accepted == 0).map_or(Ok(report), Err)
    }

    async fn send(&self, unit: &Unit<'_>) -> Result<ExportReport, ExportError> {
        match unit {
            Unit::Spans(items) => self.send_spans(items).await,
            Unit::Assessment(item, assessment) => {
                self.assess(item, assessment).await?;
                Ok(ExportReport::accepted(1))
            }
        }
    }

    async fn send_spans(&self, items: &[Item<'_>]) -> Result<ExportReport, ExportError> {
        let mut spans = Spans::with_capacity(items.len());
        items.iter().for_each(|item| spans.add(|span| spans::write_span(item.event, &item.span, span)));
        let resource = self.batch.resource;
        let sent = send_spans(&self.experiment.spans, SPANS, resource, &spans, self.batch.at, self.http).await;
        sent.map_err(|error| match error {
            // A database that is busy for the moment has the status of an invalid span.
            ExportError::Rejected { status: 422, message, .. } if message.contains("OperationalError") => {
                rejected(503, message)
            }
            error => error,
        })
    }

    async fn assess(&self, item: &Item<'_>, assessment: &Assessment) -> Result<(), ExportError> {
        match self.create(assessment).await {
            // No span of the trace has arrived yet, so the assessment brings one.
            Err(ExportError::Rejected { status: 404, .. }) => {
                self.send_spans(std::slice::from_ref(item)).await?;
                self.create(assessment).await
            }
            created => created,
        }
    }

    /// Creates an assessment, unless it exists already: MLflow rejects the same id as an error like any other.
    async fn create(&self, assessment: &Assessment) -> Result<(), ExportError> {
        let created = self.api.post_json(&assessment.path, &assessment.body, self.batch.at, self.http).await;
        let Err(error) = created else { return Ok(()) };
        if matches!(error, ExportError::Rejected { status: 400 | 409 | 500, .. }) {
            let path = format!("{}/{}", assessment.path, assessment.id);
            let found = self.api.send(self.api.request(Method::GET, &path), "", self.batch.at, self.http).await;
            if found.is_ok() {
                return Ok(());
            }
        }
        Err(error)
    }
}
