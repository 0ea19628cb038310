use serde_json::{Map, Value, json};
use sre_core::{SloSnapshot, SpanId, Status, Timestamp, TraceId};
use sre_otlp::{SpanKind, SpanWriter, Spans, StatusCode};

use crate::annotation::{Annotation, Target};

/// The state of an objective at one moment: its span below that of the hour, and the annotations of its span. The same reading
/// exported twice is one.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    slo: &'a SloSnapshot,
    at: Timestamp,
    hour: Timestamp,
    pub(crate) trace: TraceId,
    pub(crate) hour_span: SpanId,
    pub(crate) span: SpanId,
}

/// The readings of an hour are one trace, so that they do not crowd out the traces of tasks.
const HOUR: i64 = 3_600;

impl<'a> Reading<'a> {
    pub(crate) fn new(slo: &'a SloSnapshot, at: Timestamp) -> Self {
        let hour = Timestamp::from_secs(at.as_secs().div_euclid(HOUR) * HOUR);
        let of_hour = ["slo", &slo.name, &slo.agent, &hour.as_secs().to_string()];
        let span = SpanId::derived(&["slo-reading", &slo.name, &slo.agent, &at.as_nanos().to_string()]);
        Self { slo, at, hour, trace: TraceId::derived(&of_hour), hour_span: SpanId::derived(&of_hour), span }
    }

    /// Adds the span of the hour, and that of the reading.
    pub(crate) fn write_spans(&self, spans: &mut Spans) {
        spans.add(|span| {
            self.write_common(span);
            span.ids(self.trace, self.hour_span, None);
            span.times(self.hour, self.hour);
        });
        spans.add(|span| {
            self.write_common(span);
            span.ids(self.trace, self.span, Some(self.hour_span));
            span.times(self.at, self.at);
            match self.slo.status {
                Status::Critical | Status::Exhausted => span.status(StatusCode::Error, self.slo.status.as_str()),
                Status::Healthy | Status::Warning => span.status(StatusCode::Ok, ""),
                Status::Unknown => {}
            }
        });
    }

    fn write_common(&self, span: &mut SpanWriter<'_>) {
        let slo = self.slo;
        let mut attributes = span.attributes();
        attributes.text("openinference.span.kind", "EVALUATOR");
        attributes.text("agent.name", Some(slo.agent.as_str()).filter(|agent| !agent.is_empty()));
        attributes.json_text("metadata", &metadata(slo));
        span.name(&["slo ", &slo.name]);
        span.kind(SpanKind::Internal);
    }

    /// Returns the annotations of the reading's span.
    pub(crate) fn annotations(&self) -> Vec<Annotation> {
        annotations(self.slo, self.span)
    }
}

fn metadata(slo: &SloSnapshot) -> Map<String, Value> {
    let mut metadata: Map<String, Value> =
        slo.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    metadata.insert("agent".to_owned(), slo.agent.as_str().into());
    metadata.insert("window".to_owned(), slo.window.to_string().into());
    metadata.insert("target".to_owned(), json!(slo.target));
    metadata
}

/// Returns the numbers of an objective and of its indicators, and its status, as annotations of the reading's span.
pub(crate) fn annotations(slo: &SloSnapshot, span: SpanId) -> Vec<Annotation> {
    let hour = slo.burn_rates.iter().find(|burn| burn.window.duration().as_secs() == 3_600);
    let numbers = [
        ("sli", slo.sli),
        ("budget_remaining", slo.error_budget.remaining),
        ("burn_rate", hour.and_then(|burn| burn.rate)),
    ];
    let numbers = numbers.into_iter().map(|(name, score)| (name.to_owned(), score, None));
    let status = (
        "status".to_owned(),
        Some(slo.alerts.iter().filter(|alert| alert.firing).count() as f64),
        Some(slo.status.as_str().to_owned()),
    );
    let indicators = slo.indicators.iter().map(|indicator| {
        let met = indicator.is_met().map(|is_met| if is_met { "met" } else { "missed" }.to_owned());
        (format!("indicator {} {}", indicator.name, indicator.window), indicator.value, met)
    });
    let all = numbers.chain([status]).chain(indicators);
    let annotation = |(name, score, label): (String, Option<f64>, Option<String>)| {
        let score = score.filter(|score| score.is_finite());
        let is_known = score.is_some() || label.is_some();
        is_known.then(|| Annotation {
            target: Target::Span(span),
            is_by_model: false,
            score,
            label,
            explanation: None,
            metadata: Map::from_iter([("slo".to_owned(), slo.name.as_str().into())]),
            identifier: "agent-sre".to_owned(),
            name: format!("slo.{name}"),
        })
    };
    all.filter_map(annotation).collect()
}
