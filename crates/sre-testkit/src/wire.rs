//! What the recordings of each format look like: where a run starts and ends, and which of its fields are times and ids.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sre_core::Timestamp;

/// The records of a format, as far as tests change them.
pub(crate) struct Wire {
    start: fn(&Value) -> bool,
    end: fn(&Value) -> bool,
    /// The pointer to the id of a run in the record of its start.
    id: &'static str,
    /// Whether records are spans of OpenTelemetry, whose traces come in any order.
    pub(crate) has_traces: bool,
    /// Whether each record names what it is about, so that its place among the others does not matter.
    pub(crate) is_ordered_by_ids: bool,
    /// Whether records name no run, unless the forwarder adds `run_id`.
    has_no_ids: bool,
    /// Whether the recordings have arguments of tools.
    pub(crate) has_arguments: bool,
    format: String,
}

/// Fields whose values are ids.
pub(crate) const IDS: [&str; 16] = [
    "run_id",
    "parent_run_id",
    "parent_ids",
    "event_id",
    "parent_event_id",
    "started_event_id",
    "task_id",
    "call_id",
    "id",
    "parent",
    "span_id",
    "trace_id",
    "parent_id",
    "traceId",
    "spanId",
    "parentSpanId",
];
/// Fields whose values are times.
pub(crate) const TIMES: [&str; 8] = [
    "time",
    "created_at",
    "finished_at",
    "started_at",
    "ended_at",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "timeUnixNano",
];

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

impl Wire {
    pub(crate) fn of(format: &str) -> Self {
        let wire = |start: fn(&Value) -> bool, end: fn(&Value) -> bool, id: &'static str| Self {
            start,
            end,
            id,
            has_traces: false,
            is_ordered_by_ids: false,
            has_no_ids: false,
            has_arguments: true,
            format: format.to_owned(),
        };
        match format {
            "langgraph" => wire(
                |record| text(record, "event") == "on_chain_start" && record["parent_ids"] == json!([]),
                |record| {
                    text(record, "event") == "raised"
                        || (text(record, "event") == "on_chain_end" && record["parent_ids"] == json!([]))
                },
                "/run_id",
            ),
            "langchain" => wire(
                |record| text(record, "event") == "on_chain_start" && record["parent_run_id"].is_null(),
                |record| text(record, "event").starts_with("on_chain_e") && record["parent_run_id"].is_null(),
                "/run_id",
            ),
            "llamaindex" => wire(
                |record| text(record, "kind") == "span_enter" && record["parent"].is_null(),
                |record| {
                    ["span_exit", "span_drop"].contains(&text(record, "kind"))
                        && text(record, "id").starts_with("FunctionAgent.run-")
                },
                "/id",
            ),
            "crewai" => wire(
                |record| text(record, "type") == "crew_kickoff_started",
                |record| ["crew_kickoff_completed", "crew_kickoff_failed"].contains(&text(record, "type")),
                "/event_id",
            ),
            "autogen" => Self {
                has_no_ids: true,
                ..wire(
                    |record| text(record, "type") == "conversation_start",
                    |record| ["TaskResult", "raised"].contains(&text(record, "type")),
                    "/run_id",
                )
            },
            "semantic-kernel" => Self {
                has_no_ids: true,
                has_arguments: false,
                ..wire(
                    |record| text(record, "event") == "kernel_start",
                    |record| text(record, "event") == "kernel_end",
                    "/run_id",
                )
            },
            "openai-agents" => wire(
                |record| text(record, "event") == "trace_start",
                |record| text(record, "event") == "trace_end",
                "/id",
            ),
            "dify" => wire(
                |record| text(record, "event") == "workflow_started",
                |record| ["workflow_finished", "error"].contains(&text(record, "event")),
                "/task_id",
            ),
            "otlp" => Self {
                has_traces: true,
                is_ordered_by_ids: true,
                ..wire(|_| false, |record| span(record)["parentSpanId"].as_str().is_none_or(str::is_empty), "")
            },
            format => panic!("found format {format}, expected one with a row"),
        }
    }

    /// Returns the records of each run in a file. A request of OpenTelemetry is divided into its spans, by their ends.
    pub(crate) fn runs(&self, lines: &Path) -> Vec<Vec<Value>> {
        let text = std::fs::read_to_string(lines).expect("a recording");
        let records = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        let mut runs: Vec<Vec<Value>> = Vec::new();
        if self.has_traces {
            let mut spans: Vec<Value> = records.flat_map(|request| spans(&request)).collect();
            spans.sort_by_key(Self::time);
            for record in spans {
                let trace = |record: &Value| span(record)["traceId"].clone();
                match runs.iter_mut().find(|run| trace(&run[0]) == trace(&record)) {
                    Some(run) => run.push(record),
                    None => runs.push(vec![record]),
                }
            }
            return runs;
        }
        for record in records {
            match runs.last_mut() {
                Some(run) if !(self.start)(&record) => run.push(record),
                _ => runs.push(vec![record]),
            }
        }
        runs
    }

    /// Returns the place of the record that ends a run.
    pub(crate) fn end_of(&self, run: &[Value]) -> usize {
        run.iter().rposition(|record| (self.end)(record)).expect("a recorded run ends")
    }

    /// Returns when a record was made.
    pub(crate) fn time(record: &Value) -> Option<Timestamp> {
        let nanos = span(record)["endTimeUnixNano"].as_str().and_then(|nanos| nanos.parse().ok());
        let data = &record["data"];
        let times = [&record["time"], &data["finished_at"], &data["created_at"], &record["created_at"]];
        nanos
            .map(Timestamp::from_nanos)
            .or_else(|| times.into_iter().find_map(|time| serde_json::from_value(time.clone()).ok()))
    }

    /// Returns a record that was made some seconds later.
    pub(crate) fn shifted(&self, record: &Value, seconds: i64) -> Value {
        changed(record, &TIMES, &|value| later(value, seconds))
    }

    /// Returns a record with other ids, the same for each record with that number.
    pub(crate) fn renamed(&self, record: &Value, number: u64) -> Value {
        changed(record, &IDS, &|value| self.other_id(value, number))
    }

    /// Returns a span with other ids, of the same trace.
    pub(crate) fn renamed_span(&self, record: &Value, number: u64) -> Value {
        changed(record, &["spanId", "parentSpanId"], &|value| self.other_id(value, number))
    }

    /// Returns the value of an id for the records with that number.
    pub(crate) fn other_id(&self, value: &Value, number: u64) -> Value {
        match value {
            Value::String(id) if id.is_empty() => value.clone(),
            // In base64, of a fixed length.
            Value::String(id) if self.has_traces => json!(format!("{:0>5}{}", number % 100_000, &id[5..])),
            Value::String(id) => json!(format!("{id}-{number}")),
            Value::Array(ids) => ids.iter().map(|id| self.other_id(id, number)).collect(),
            _ => value.clone(),
        }
    }

    /// Returns the record that starts a run, with the id of another run.
    pub(crate) fn with_id(&self, start: &Value, number: u64) -> Value {
        if self.has_traces {
            return changed(start, &["traceId"], &|_| json!(format!("{number:0>21}A==")));
        }
        let mut record = start.clone();
        match record.pointer_mut(self.id) {
            Some(id) => *id = json!(format!("{}-{number}", id.as_str().unwrap_or_default())),
            None => record[&self.id[1..]] = json!(number.to_string()),
        }
        record
    }

    /// Adds ids to the records of a format that has none, as one that forwards overlapping runs does.
    pub(crate) fn with_run_ids(&self, records: Vec<Value>, sender: &str) -> Vec<Value> {
        let mut number = 0;
        self.with_ids(records, &mut |is_start| {
            number += u64::from(is_start);
            format!("{sender}-{number}")
        })
    }

    /// Adds the same id to all records of a format that has none.
    pub(crate) fn with_one_id(&self, records: Vec<Value>) -> Vec<Value> {
        self.with_ids(records, &mut |_| "one".to_owned())
    }

    fn with_ids(&self, mut records: Vec<Value>, id: &mut dyn FnMut(bool) -> String) -> Vec<Value> {
        for record in records.iter_mut().filter(|_| self.has_no_ids) {
            record["run_id"] = id((self.start)(record)).into();
        }
        records
    }

    /// Returns the records of a model call in a run that the provider refuses, and the number of calls that they are; `None` if
    /// the format reports no such call: AutoGen's log and Semantic Kernel's filters. Those of OpenTelemetry differ by dialect.
    pub(crate) fn rate_limited_call(&self, start: &Value) -> Option<(Vec<Value>, u64)> {
        let (id, time) = (start.pointer(self.id)?, Self::time(start)?);
        let error = "RateLimitError: 429";
        let records = match &*self.format {
            "langgraph" => vec![
                json!({"event": "on_chat_model_start", "time": time, "name": "m", "run_id": "call", "parent_ids": [id]}),
                json!({"event": "on_chat_model_error", "time": time, "run_id": "call", "parent_ids": [id], "data": {"error": error}}),
            ],
            "langchain" => vec![
                json!({"event": "on_chat_model_start", "time": time, "run_id": "call", "parent_run_id": id, "args": [{"name": "m"}]}),
                json!({"event": "on_llm_error", "time": time, "run_id": "call", "parent_run_id": id, "args": [error]}),
            ],
            "llamaindex" => vec![
                json!({"kind": "span_enter", "time": time, "id": "OpenAI.achat-call", "parent": id}),
                json!({"kind": "event", "time": time, "class_name": "LLMChatStartEvent", "span_id": "OpenAI.achat-call"}),
                json!({"kind": "span_drop", "time": time, "id": "OpenAI.achat-call", "error": "RateLimitError", "message": "429"}),
            ],
            "crewai" => vec![
                json!({"type": "llm_call_started", "time": time, "event_id": "1", "call_id": "call", "parent_event_id": id}),
                json!({"type": "llm_call_failed", "time": time, "event_id": "2", "call_id": "call", "error": error}),
            ],
            "openai-agents" => {
                let span = |event: &str, error: Value| json!({"event": event, "time": time, "id": "call", "trace_id": id, "span_data": {"type": "generation"}, "error": error});
                vec![span("span_start", Value::Null), span("span_end", json!({"message": error}))]
            }
            "dify" => {
                let node = |event: &str, status: &str, error: Value| {
                    let data =
                        json!({"id": "call", "node_type": "llm", "status": status, "error": error, "retry_index": 1});
                    json!({"event": event, "time": time, "task_id": id, "data": data})
                };
                // Dify reports the attempt that failed, and then the one that succeeded.
                let attempts =
                    [node("node_retry", "retry", json!(error)), node("node_finished", "succeeded", Value::Null)];
                return Some(([vec![node("node_started", "running", Value::Null)], attempts.to_vec()].concat(), 2));
            }
            _ => return None,
        };
        Some((records, 1))
    }
}

/// Returns the span of a request with one.
fn span(request: &Value) -> &Value {
    &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
}

/// Returns a request for each span of one.
fn spans(request: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut requests = Vec::new();
    for resource in list(&request["resourceSpans"]) {
        for scope in list(&resource["scopeSpans"]) {
            requests.extend(list(&scope["spans"]).into_iter().map(|span| {
                json!({"resourceSpans": [{"resource": resource["resource"], "scopeSpans": [{"scope": scope["scope"], "spans": [span]}]}]})
            }));
        }
    }
    requests
}

/// Returns a time some seconds later.
pub(crate) fn later(time: &Value, seconds: i64) -> Value {
    match time {
        Value::Number(number) => match number.as_i64() {
            Some(time) => json!(time + seconds),
            None => json!(number.as_f64().unwrap_or_default() + seconds as f64),
        },
        Value::String(text) => match (text.parse::<i64>(), text.parse::<Timestamp>()) {
            (Ok(nanos), _) => json!((nanos + seconds * 1_000_000_000).to_string()),
            (_, Ok(time)) => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                json!(if seconds < 0 { time.saturating_sub(by) } else { time.saturating_add(by) })
            }
            _ => time.clone(),
        },
        _ => time.clone(),
    }
}

/// Returns a record with the values of some fields changed.
fn changed(value: &Value, fields: &[&str], change: &dyn Fn(&Value) -> Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| {
                let is_changed = fields.contains(&&**name) && !value.is_object();
                (name.clone(), if is_changed { change(value) } else { changed(value, fields, change) })
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(values) => values.iter().map(|value| changed(value, fields, change)).collect(),
        _ => value.clone(),
    }
}
