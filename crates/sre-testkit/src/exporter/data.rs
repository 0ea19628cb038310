use std::sync::Arc;

use serde_json::json;
use sre_core::event::Evaluation;
use sre_core::{
    AgentEvent, BurnRate, EventSpan, ExponentialHistogram, ExportBatch, Metric, MetricUnit, Resource, SloSnapshot,
    Snapshot, Timestamp, Totals, Wants, Window,
};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// The input of an exporter.
pub(crate) struct Data {
    pub(crate) events: Vec<Arc<AgentEvent>>,
    pub(crate) metrics: Vec<Metric<'static>>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Data {
    /// A task with every kind of event, and one metric of every kind.
    pub(crate) fn small() -> Self {
        let mut histogram = ExponentialHistogram::new(3);
        [0.0, 0.1, 0.5, 2.0].into_iter().for_each(|value| histogram.record(value));
        let metrics = vec![
            Metric::gauge("suite.gauge", -1.5).with_help("A gauge.").with_label("slo", "answers"),
            Metric::gauge("suite.gauge", 2.5).with_help("A gauge.").with_label("slo", "others"),
            Metric::counter("suite.counter", 7.0).with_unit(MetricUnit::Dollars),
            Metric::histogram("suite.latency", histogram).with_unit(MetricUnit::Seconds),
        ];
        Self { events: events(&EVENTS), metrics, snapshots: vec![slo(), Snapshot::Totals(Totals::default())] }
    }

    /// Returns the number of tasks whose start is an event.
    pub(crate) fn starts(&self) -> u64 {
        self.events.iter().filter(|event| EventSpan::started(event).is_some()).count() as u64
    }

    /// Values that are difficult for formats and backends.
    pub(crate) fn extreme() -> Self {
        let long = "ä\u{1f600}\"\\\n\u{0}".repeat(50_000 / 9);
        let text = json!(long).to_string();
        let lines = [
            format!(
                r#"{{"event":"task_finished","time":1790000000,"agent":{text},"task":{text},"success":false,"error":{text}}}"#
            ),
            format!(
                r#"{{"event":"llm_call","time":1790000000,"agent":"a","task":{text},"model":{text},"provider":{text},"input_tokens":1000000000,"output_tokens":0,"duration_ms":3.1e12,"cost_usd":"100000"}}"#
            ),
            format!(r#"{{"event":"tool_call","time":0,"agent":"a","tool":{text},"trace_id":{text},"span_id":{text}}}"#),
            format!(
                r#"{{"event":"evaluation","time":0,"agent":"a","metric":{text},"score":1e300,"attributes":{{"x":{text},"y":[1,{{"z":null}}]}}}}"#
            ),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut events = events(&lines);
        events.extend(
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
                .map(|score| Arc::new(AgentEvent::new(START, "a", Evaluation::new("extreme", None, Some(score))))),
        );
        let metrics = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0]
            .map(|value| Metric::gauge("suite.extreme", value).with_label("text", long.clone()));
        Self { events, metrics: metrics.to_vec(), snapshots: extreme_slos(long) }
    }

    /// Returns the batches that an outbox creates from the data for an exporter.
    pub(crate) fn batches<'a>(&'a self, wants: Wants, resource: &'a Resource) -> Vec<ExportBatch<'a>> {
        let metrics: &[_] = if wants.metrics { &self.metrics } else { &[] };
        let snapshots: &[_] = if wants.snapshots { &self.snapshots } else { &[] };
        let events: &[_] = if wants.events { &self.events } else { &[] };
        let state = ExportBatch::new(START, resource).with_state(metrics, snapshots);
        let events = ExportBatch::new(START, resource).with_events(events);
        [state, events].into_iter().filter(|batch| !batch.is_empty()).collect()
    }
}

fn events(lines: &[&str]) -> Vec<Arc<AgentEvent>> {
    let read = |line: &&str| AgentEvent::from_json(line.as_bytes()).expect("the suite's own events are valid");
    lines.iter().map(read).map(Arc::new).collect()
}

fn slo() -> Snapshot {
    serde_json::from_value(json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": "warning", "target": 0.95, "window": "24h",
        "good": 97, "bad": 3, "sli": 0.97, "interval": [0.91, 0.99],
        "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null},
        "burn_rates": [{"window": "1h", "rate": 2.5, "good": 9, "bad": 1}],
        "alerts": [], "indicators": [], "dropped": 0
    }))
    .expect("the suite's own snapshot is valid")
}

/// Objectives whose numbers are no numbers, one of them with this long name and agent.
fn extreme_slos(long: String) -> Vec<Snapshot> {
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| {
        let mut extreme = SloSnapshot::new("extreme", "support", Window::DAY);
        (extreme.target, extreme.sli) = (Some(0.95), Some(value));
        (extreme.error_budget.remaining, extreme.error_budget.consumed) = (Some(value), Some(value));
        extreme.burn_rates = vec![BurnRate::new(Window::HOUR, Some(value), 0, 1)];
        extreme
    });
    let mut text = SloSnapshot::new(long.clone(), long, Window::DAY);
    text.target = Some(0.95);
    numbers.into_iter().chain([text]).map(|slo| Snapshot::Slo(Box::new(slo))).chain([slo()]).collect()
}

/// The model call's numbers are those of [`CALL`](super::CALL).
const EVENTS: [&str; 12] = [
    r#"{"event":"task_started","time":1790000000,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000a1","name":"answer"}"#,
    r#"{"event":"llm_call","time":1790000001.25,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000b1","parent_span_id":"00000000000000a1","model":"gpt-4o-mini","provider":"openai","input_tokens":1000,"cached_input_tokens":200,"output_tokens":50,"cost_usd":"0.0125","success":true,"duration_ms":750.5,"first_token_ms":120}"#,
    r#"{"event":"tool_call","time":1790000002,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000b2","parent_span_id":"00000000000000a1","tool":"search","arguments_hash":"0f","success":false,"correct":true,"error":"not found","duration_ms":20}"#,
    r#"{"event":"step_finished","time":1790000003,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000b3","parent_span_id":"00000000000000a1","name":"plan","kind":"node","success":true,"duration_ms":5}"#,
    r#"{"event":"handoff","time":1790000004,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000b4","parent_span_id":"00000000000000a1","from":"support","to":"billing","depth":2}"#,
    r#"{"event":"evaluation","time":1790000005,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","parent_span_id":"00000000000000a1","metric":"relevance","score":0.75,"confidence":0.5}"#,
    r#"{"event":"policy_check","time":1790000005,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","policy":"pii","compliant":true}"#,
    r#"{"event":"task_finished","time":1790000006,"agent":"support","task":"t-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000a1","success":false,"error":"gave up","duration_ms":6000,"cost_usd":"0.02"}"#,
    r#"{"event":"llm_call","time":1790000007,"agent":"native","task":"run-7","model":"m","input_tokens":1,"output_tokens":2,"duration_ms":1}"#,
    r#"{"event":"task_finished","time":1790000008,"agent":"native","task":"run-7","success":true,"duration_ms":2000}"#,
    r#"{"event":"http_request","time":1790000008,"agent":"native","url":"https://user:s3cr3t-of-the-suite@example.com/path?key=s3cr3t-of-the-suite","status_code":500}"#,
    r#"{"event":"heartbeat","time":1790000009,"agent":"native"}"#,
];

/// The span of the model call that is checked in detail.
pub(crate) const CALL_SPAN: &str = "00000000000000b1";
