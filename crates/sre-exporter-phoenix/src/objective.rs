use serde_json::{Map, Value, json};
use sre_core::{SloSnapshot, SpanId, Status, Timestamp, stable_id};
use sre_otlp::{Attributes, Span, SpanKind, StatusCode, unix_nanos};

use crate::annotation::{Annotation, Target};
use crate::by_hand::span_id;

/// The state of an objective at one moment: its span below that of the hour, and the annotations of its span.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) spans: [Span; 2],
    pub(crate) annotations: Vec<Annotation>,
}

/// The readings of an hour are one trace, so that they do not crowd out the traces of tasks.
const HOUR: i64 = 3_600;

/// Returns the reading of an objective. The same reading exported twice is one.
pub(crate) fn reading(slo: &SloSnapshot, at: Timestamp) -> Reading {
    let hour = Timestamp::from_secs(at.as_secs().div_euclid(HOUR) * HOUR);
    let trace = stable_id(&["slo", &slo.name, &slo.agent, &hour.as_secs().to_string()]);
    let root = span(slo, trace, span_id(trace), hour);
    let id = span_id(stable_id(&["slo-reading", &slo.name, &slo.agent, &at.as_nanos().to_string()]));
    let mut reading = span(slo, trace, id, at);
    reading.parent_span_id.clone_from(&root.span_id);
    let (code, message) = match slo.status {
        Status::Critical | Status::Exhausted => (StatusCode::Error, slo.status.as_str().to_owned()),
        Status::Unknown => (StatusCode::Unset, String::new()),
        Status::Healthy | Status::Warning => (StatusCode::Ok, String::new()),
    };
    reading.status = Some(sre_otlp::Status { code: code.into(), message });
    Reading { spans: [root, reading], annotations: annotations(slo, id) }
}

fn span(slo: &SloSnapshot, trace: [u8; 16], id: SpanId, at: Timestamp) -> Span {
    let mut attributes = Attributes::default();
    attributes.text("openinference.span.kind", "EVALUATOR");
    attributes.text("agent.name", Some(slo.agent.as_str()).filter(|agent| !agent.is_empty()));
    attributes.json("metadata", &metadata(slo).into());
    Span {
        trace_id: trace.to_vec(),
        span_id: id.to_bytes().to_vec(),
        name: format!("slo {}", slo.name),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: unix_nanos(at),
        end_time_unix_nano: unix_nanos(at),
        attributes: attributes.into_inner(),
        ..Span::default()
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
fn annotations(slo: &SloSnapshot, span: SpanId) -> Vec<Annotation> {
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
