use std::collections::VecDeque;
use std::iter;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Event, EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter,
    Resource, SpanId, Timestamp, TraceId, Wants,
};
use sre_otlp::{Spans, send_spans};

use crate::annotation::{Annotation, Target};
use crate::objective::Reading;
use crate::recent::Recent;
use crate::settings::{NAME, PhoenixSettings, Project};
use crate::spans;

/// Sends events and the state of objectives to Phoenix.
#[derive(Debug)]
pub struct PhoenixExporter {
    project: Project,
    recent: Mutex<Recent>,
}

const SPANS: &str = "/v1/traces";

/// The events of one request.
#[derive(Debug)]
enum Unit<'a> {
    Spans(Vec<Item<'a>>),
    /// Annotations of spans only, or of traces only.
    Annotations(Vec<(Item<'a>, Annotation)>),
}

/// An event of a batch, by its place there.
#[derive(Clone, Debug)]
struct Item<'a> {
    index: usize,
    event: &'a AgentEvent,
    span: EventSpan<'a>,
}

impl Unit<'_> {
    fn indices(&self) -> Vec<usize> {
        match self {
            Self::Spans(items) => items.iter().map(|item| item.index).collect(),
            Self::Annotations(annotations) => annotations.iter().map(|(item, _)| item.index).collect(),
        }
    }
}

/// Where and for whom requests are made.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) at: Timestamp,
    pub(crate) resource: &'a Resource,
    pub(crate) http: &'a dyn HttpClient,
}

impl PhoenixExporter {
    /// Creates an exporter, without connecting to the server.
    pub fn new(settings: PhoenixSettings) -> Result<Self, InvalidExporter> {
        Ok(Self { project: settings.try_into()?, recent: Mutex::default() })
    }

    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let context = Context { at: batch.at, resource: batch.resource, http };
        let (mut spans, mut of_spans, mut of_traces) = (Vec::new(), Vec::new(), Vec::new());
        for (index, event) in batch.events.iter().enumerate() {
            let Some(span) = EventSpan::of(event) else { continue };
            let item = Item { index, event, span };
            match (&event.event, Annotation::of(event, &item.span)) {
                (_, Some(annotation)) => match annotation.target {
                    Target::Span(_) => of_spans.push((item, annotation)),
                    Target::Trace(_) => of_traces.push((item, annotation)),
                },
                (Event::Evaluation(_), None) => {}
                _ => spans.push(item),
            }
        }
        let ignored = batch.events.len() - spans.len() - of_spans.len() - of_traces.len();
        let mut units = VecDeque::new();
        units.extend(Some(spans).filter(|spans| !spans.is_empty()).map(Unit::Spans));
        units.extend([of_spans, of_traces].into_iter().filter(|list| !list.is_empty()).map(Unit::Annotations));
        Ok(self.send_all(units, context).await?.with_ignored(ignored))
    }

    /// Sends units in order. Fails only if nothing was accepted.
    async fn send_all(&self, mut units: VecDeque<Unit<'_>>, context: Context<'_>) -> Result<ExportReport, ExportError> {
        let (mut report, mut first_error) = (ExportReport::default(), None);
        while let Some(unit) = units.pop_front() {
            let sent = match &unit {
                Unit::Spans(items) => self.send_items(items, context).await,
                Unit::Annotations(annotations) => self.annotate_items(annotations, context).await,
            };
            match (sent, unit) {
                (Ok(part), _) => report = report.and(part),
                // The response does not report which annotation is at fault.
                (Err(ExportError::Rejected { status: 400 | 422, .. }), Unit::Annotations(annotations))
                    if annotations.len() > 1 =>
                {
                    let single = annotations.into_iter().rev().map(|annotation| Unit::Annotations(vec![annotation]));
                    single.for_each(|unit| units.push_front(unit));
                }
                (Err(error), unit) if error.is_temporary() => {
                    if report == ExportReport::default() {
                        return Err(error);
                    }
                    let mut places: Vec<usize> = iter::once(&unit).chain(&units).flat_map(Unit::indices).collect();
                    places.sort_unstable();
                    return Ok(report.with_failed(&places, &error));
                }
                (Err(error), unit) => {
                    report = report.with_failed(&unit.indices(), &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.filter(|_| report.accepted == 0).map_or(Ok(report), Err)
    }

    async fn send_items(&self, items: &[Item<'_>], context: Context<'_>) -> Result<ExportReport, ExportError> {
        let mut spans = Spans::with_capacity(items.len());
        items.iter().for_each(|item| spans.add(|span| spans::write_span(item.event, &item.span, span)));
        let ids = items.iter().map(|item| (item.span.trace_id, item.span.span_id));
        self.send_spans(&spans, ids, context).await
    }

    /// Sends spans, and remembers their ids: Phoenix answers before it has stored them.
    pub(crate) async fn send_spans(
        &self,
        spans: &Spans,
        ids: impl IntoIterator<Item = (TraceId, SpanId)> + Send,
        context: Context<'_>,
    ) -> Result<ExportReport, ExportError> {
        let of_project = context.resource.clone().with("openinference.project.name", &self.project.name);
        let Context { at, http, .. } = context;
        let report = send_spans(&self.project.api, SPANS, &of_project, spans, at, http).await?;
        let mut recent = lock(&self.recent);
        for (trace, span) in ids {
            recent.insert(Target::Trace(trace));
            recent.insert(Target::Span(span));
        }
        drop(recent);
        Ok(report)
    }

    async fn annotate_items(
        &self,
        annotations: &[(Item<'_>, Annotation)],
        context: Context<'_>,
    ) -> Result<ExportReport, ExportError> {
        let all: Vec<&Annotation> = annotations.iter().map(|(_, annotation)| annotation).collect();
        match self.annotate(&all, true, context).await {
            Ok(()) => return Ok(ExportReport::accepted(all.len())),
            Err(ExportError::Rejected { status: 404, .. }) => {}
            Err(error) => return Err(error),
        }
        let is_recent = |annotation: &Annotation| lock(&self.recent).contains(annotation.target);
        let (sent, others): (Vec<_>, Vec<_>) = annotations.iter().partition(|(_, annotation)| is_recent(annotation));
        let sent: Vec<&Annotation> = sent.into_iter().map(|(_, annotation)| annotation).collect();
        // Phoenix has the spans in its queue, and keeps the annotations in another until the spans are stored.
        self.annotate(&sent, false, context).await?;
        for (item, annotation) in others {
            self.annotate_other(item, annotation, context).await?;
        }
        Ok(ExportReport::accepted(annotations.len()))
    }

    /// Annotates a span or trace of which it is not known whether it was ever sent.
    async fn annotate_other(
        &self,
        item: &Item<'_>,
        annotation: &Annotation,
        context: Context<'_>,
    ) -> Result<(), ExportError> {
        match self.annotate(&[annotation], true, context).await {
            Err(ExportError::Rejected { status: 404, .. }) => {}
            annotated => return annotated,
        }
        // A span arrives when it ends, which may be much later. The trace is annotated instead, and if no span of it has
        // arrived, the annotation brings one.
        let of_trace = annotation.clone().for_trace(item.span.trace_id);
        if !lock(&self.recent).contains(of_trace.target) {
            if of_trace.target != annotation.target {
                match self.annotate(&[&of_trace], true, context).await {
                    Err(ExportError::Rejected { status: 404, .. }) => {}
                    annotated => return annotated,
                }
            }
            self.send_items(std::slice::from_ref(item), context).await?;
        }
        self.annotate(&[&of_trace], false, context).await
    }

    /// Posts annotations, all of spans or all of traces. If they are to be stored at once, Phoenix stores none and answers
    /// 404 when one of their targets is missing; otherwise it queues them.
    pub(crate) async fn annotate(
        &self,
        annotations: &[&Annotation],
        at_once: bool,
        context: Context<'_>,
    ) -> Result<(), ExportError> {
        let Some(first) = annotations.first() else { return Ok(()) };
        let path = format!("{}?sync={at_once}", first.target.path());
        let data: Vec<Value> = annotations.iter().map(|annotation| annotation.json()).collect();
        self.project.api.post_json(&path, &json!({ "data": data }), context.at, context.http).await.map(drop)
    }

    /// Exports the state of objectives. Exporting it again changes nothing, because spans and annotations keep their ids.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let context = Context { at: batch.at, resource: batch.resource, http };
        let (mut spans, mut ids, mut annotations) = (Spans::default(), Vec::new(), Vec::new());
        for slo in batch.objectives() {
            let reading = Reading::new(slo, batch.at);
            reading.write_spans(&mut spans);
            annotations.extend(reading.annotations());
            ids.extend([(reading.trace, reading.hour_span), (reading.trace, reading.span)]);
        }
        let objectives = spans.len() / 2;
        self.send_spans(&spans, ids, context).await?;
        // Their spans have just been sent.
        self.annotate(&annotations.iter().collect::<Vec<_>>(), false, context).await?;
        Ok(ExportReport::accepted(objectives).with_ignored(batch.snapshots.len() - objectives))
    }
}

#[async_trait]
impl Exporter for PhoenixExporter {
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
