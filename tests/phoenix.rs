//! A recorded run of LangGraph in a real Phoenix server, read back by Phoenix's own client.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_sre::phoenix::{PhoenixExporter, PhoenixSettings};
use serde_json::{Value, json};
use sre_core::{AgentEvent, Event, EventSpan, SloSnapshot, Timestamp};
use sre_testkit::servers::{Server, free_port, programs, read};

mod servers;

use servers::{Export, TIMES};

const PROJECT: &str = "support";

fn serve(programs: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(programs.join("python"));
    command
        .args(["-m", "phoenix.server.main", "serve"])
        .env("PHOENIX_HOST", "127.0.0.1")
        .env("PHOENIX_PORT", port.to_string())
        .env("PHOENIX_GRPC_PORT", free_port().to_string())
        .env("PHOENIX_WORKING_DIR", folder)
        .env("PHOENIX_TELEMETRY_ENABLED", "false")
        .env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false");
    command
}

fn exporter(url: &str) -> Arc<PhoenixExporter> {
    let settings = PhoenixSettings { project: PROJECT.to_owned(), ..PhoenixSettings::new(url) };
    Arc::new(PhoenixExporter::new(settings).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn phoenix_has_a_recorded_run_field_by_field() {
    let Some(programs) = programs("phoenix", "phoenix.client", "phoenix") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let start =
        async || Server::start(serve(&programs, folder.path(), port), folder.path(), &format!("{url}/healthz")).await;
    let events = servers::recorded();
    let [alone, before, after] = servers::parts(&events);
    let export = Export::new(exporter(&url));
    let server = start().await;
    let mut states = vec![export.send(alone, TIMES[0]).await];
    read_until(&programs, &url, wanted(alone, &states));
    // The server restarts in the middle.
    drop(server);
    states.push(export.send_in_vain(before, TIMES[1]).await);
    let _server = start().await;
    states.push(export.send(after, TIMES[2]).await);
    let wanted = wanted(&events, &states);
    let found = read_until(&programs, &url, wanted);
    check_spans(&found["spans"], &events);
    check_annotations(&found, &events);
    check_readings(&found, &states);

    // After a restart that sends everything again, nothing is there twice.
    Export::new(exporter(&url)).send(&events, TIMES[2]).await;
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(counts(&read_back(&programs, &url)), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_and_lost_responses_neither_lose_nor_double_anything() {
    let Some(programs) = programs("phoenix", "phoenix.client", "phoenix") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let _server = Server::start(serve(&programs, folder.path(), port), folder.path(), &format!("{url}/healthz")).await;
    let events = servers::recorded();
    let states = Export::through_faults(exporter(&url), &events).await;
    let wanted = wanted(&events, &states);
    let found = read_until(&programs, &url, wanted);
    assert_eq!(counts(&read_back(&programs, &url)), wanted, "and no more comes");
    check_spans(&found["spans"], &events);
    check_annotations(&found, &events);
    check_readings(&found, &states);
}

fn read_back(programs: &Path, url: &str) -> Value {
    read(programs, "read_phoenix.py", &[url, PROJECT])
}

/// Reads until there is as much as wanted: Phoenix answers before it has stored what it got.
fn read_until(programs: &Path, url: &str, wanted: [usize; 3]) -> Value {
    let begun = Instant::now();
    loop {
        let found = read_back(programs, url);
        if counts(&found) == wanted {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{:?}, expected {wanted:?}", counts(&found));
    }
}

/// Returns the numbers of spans and of annotations of spans and traces.
fn counts(found: &Value) -> [usize; 3] {
    ["spans", "span_annotations", "trace_annotations"].map(|list| found[list].as_array().unwrap().len())
}

fn wanted(events: &[AgentEvent], states: &[SloSnapshot]) -> [usize; 3] {
    let is_verdict = |event: &&AgentEvent| matches!(event.event, Event::Evaluation(_) | Event::PolicyCheck(_));
    let of_spans = events.iter().filter(is_verdict).filter(|event| event.parent_span_id.is_some()).count();
    let of_traces = events.iter().filter(is_verdict).count() - of_spans;
    let spans = events.iter().filter(|event| EventSpan::of(event).is_some() && !is_verdict(event)).count();
    let of_readings: usize = states.iter().map(|slo| readings(slo).len()).sum();
    // The first evaluation comes before any span of its trace and brings one; the readings are below the span of their hour.
    [spans + 1 + states.len() + 1, of_spans + of_readings, of_traces]
}

/// Returns the annotations of a reading: the name with score and label of each.
fn readings(slo: &SloSnapshot) -> BTreeMap<String, Value> {
    let indicator = &slo.indicators[0];
    let met = indicator.is_met().map(|is_met| if is_met { "met" } else { "missed" });
    let burn = slo.burn_rates.iter().find(|burn| burn.window.to_string() == "1h").and_then(|burn| burn.rate);
    let firing = slo.alerts.iter().filter(|alert| alert.firing).count() as f64;
    let all = [
        ("slo.sli".to_owned(), slo.sli, None),
        ("slo.budget_remaining".to_owned(), slo.error_budget.remaining, None),
        ("slo.burn_rate".to_owned(), burn, None),
        ("slo.status".to_owned(), Some(firing), Some(slo.status.as_str())),
        (format!("slo.indicator {} {}", indicator.name, indicator.window), indicator.value, met),
    ];
    let known = all.into_iter().filter(|(_, score, label)| score.is_some() || label.is_some());
    known.map(|(name, score, label)| (name, json!([score, label]))).collect()
}

fn check_spans(spans: &Value, events: &[AgentEvent]) {
    for event in events {
        let Some(expected) = EventSpan::of(event) else { continue };
        if matches!(event.event, Event::Evaluation(_) | Event::PolicyCheck(_)) {
            continue;
        }
        let id = expected.span_id.to_string();
        let span = spans.as_array().unwrap().iter().find(|span| span["context"]["span_id"] == id);
        let span = span.unwrap_or_else(|| panic!("no span {id}"));
        assert_eq!(span["context"]["trace_id"], expected.trace_id.to_string());
        assert_eq!(span["parent_id"], json!(expected.parent_span_id.map(|id| id.to_string())), "{span:#}");
        for (field, time) in [("start_time", expected.start), ("end_time", expected.end)] {
            let found: Timestamp = span[field].as_str().unwrap().parse().unwrap();
            // Phoenix keeps microseconds.
            assert!(found.as_nanos().abs_diff(time.as_nanos()) < 1_000, "{field} of {span:#}");
        }
        let status = match expected.outcome {
            Some(true) => "OK",
            Some(false) => "ERROR",
            None => "UNSET",
        };
        assert_eq!(span["status_code"], status, "{span:#}");
        if let Some(error) = expected.error {
            assert_eq!(span["status_message"], error);
            assert_eq!(span["events"][0]["attributes"]["exception.message"], error, "{span:#}");
        }
        check_attributes(span, event);
    }
}

fn check_attributes(span: &Value, event: &AgentEvent) {
    let attribute = |key: &str| &span["attributes"][key];
    let (name, kind) = match &event.event {
        Event::TaskFinished(_) => (event.agent.clone(), "AGENT"),
        Event::StepFinished(step) => (step.name.clone(), "CHAIN"),
        Event::ToolCall(call) => {
            assert_eq!(attribute("tool.name"), &json!(call.tool), "{span:#}");
            (call.tool.clone(), "TOOL")
        }
        Event::LlmCall(call) => {
            let model = call.model.clone().unwrap();
            assert_eq!(attribute("llm.model_name"), &json!(model), "{span:#}");
            assert_eq!(attribute("llm.token_count.prompt"), &json!(call.input_tokens), "{span:#}");
            assert_eq!(attribute("llm.token_count.completion"), &json!(call.output_tokens), "{span:#}");
            assert_eq!(attribute("llm.cost.total"), &json!(0.0125), "{span:#}");
            (model, "LLM")
        }
        other => panic!("no such event in the recording: {other:?}"),
    };
    assert_eq!((&span["name"], &span["span_kind"]), (&json!(name), &json!(kind)), "{span:#}");
}

fn check_annotations(found: &Value, events: &[AgentEvent]) {
    for event in events {
        let (name, score, kind) = match &event.event {
            Event::Evaluation(evaluation) => {
                let kind = if evaluation.confidence.is_some() { "LLM" } else { "CODE" };
                (&evaluation.metric, evaluation.score.unwrap(), kind)
            }
            Event::PolicyCheck(check) => (&check.policy, f64::from(u8::from(check.compliant)), "CODE"),
            _ => continue,
        };
        let trace = EventSpan::of(event).unwrap().trace_id.to_string();
        let (list, field, id) = match event.parent_span_id {
            Some(span) => ("span_annotations", "span_id", span.to_string()),
            None => ("trace_annotations", "trace_id", trace),
        };
        let is_it = |one: &&Value| one["name"] == **name && one[field] == id;
        let annotation = found[list].as_array().unwrap().iter().find(is_it);
        let annotation = annotation.unwrap_or_else(|| panic!("no {name} of {id}"));
        assert_eq!(annotation["annotator_kind"], kind);
        assert_eq!(annotation["result"]["score"], score);
        let label = if event.event.outcome().unwrap() { "pass" } else { "fail" };
        assert_eq!(annotation["result"]["label"], label);
        assert_eq!(annotation["metadata"]["agent"], *event.agent);
    }
}

fn check_readings(found: &Value, states: &[SloSnapshot]) {
    let spans = found["spans"].as_array().unwrap();
    let of_slo: Vec<&Value> = spans.iter().filter(|span| span["name"] == "slo answers").collect();
    for (at, slo) in TIMES.into_iter().zip(states) {
        let is_it = |span: &&&Value| {
            let start: Timestamp = span["start_time"].as_str().unwrap().parse().unwrap();
            start == at && !span["parent_id"].is_null()
        };
        let span = of_slo.iter().find(is_it).unwrap();
        let of_span = found["span_annotations"].as_array().unwrap().iter();
        let of_span = of_span.filter(|one| one["span_id"] == span["context"]["span_id"]);
        let result = |one: &Value| json!([one["result"]["score"], one["result"]["label"]]);
        let annotations: BTreeMap<String, Value> =
            of_span.map(|one| (one["name"].as_str().unwrap().to_owned(), result(one))).collect();
        assert_eq!(annotations, readings(slo));
    }
}
