use serde_json::{Map, Value, json};
use sre_core::{Resource, Timestamp};

/// A builder of an observation: a span in OTLP's JSON with Langfuse's attributes.
pub(crate) struct Observation {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: Option<String>,
    pub(crate) name: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    attributes: Vec<Value>,
    status: Value,
}

impl Observation {
    pub(crate) fn new(trace_id: String, span_id: String, at: Timestamp) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            name: String::new(),
            start: at,
            end: at,
            attributes: Vec::new(),
            status: json!({}),
        }
    }

    /// Adds an attribute.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = match value.into() {
            Value::Bool(value) => json!({"boolValue": value}),
            Value::String(text) => json!({"stringValue": text}),
            other => json!({"stringValue": other.to_string()}),
        };
        self.attributes.push(json!({"key": key, "value": value}));
    }

    /// Adds a metadata entry.
    pub(crate) fn set_metadata(&mut self, key: &str, value: impl Into<Value>) {
        self.set(&format!("langfuse.observation.metadata.{key}"), value);
    }

    pub(crate) fn fail(&mut self, message: &str) {
        self.set("langfuse.observation.level", "ERROR");
        self.set("langfuse.observation.status_message", message);
        self.status = json!({"code": 2, "message": message});
    }

    pub(crate) fn into_json(self) -> Value {
        let mut span = json!({
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": self.name,
            "kind": 1,
            "startTimeUnixNano": unix_nanos(self.start),
            "endTimeUnixNano": unix_nanos(self.end),
            "attributes": self.attributes,
            "status": self.status,
        });
        if let (Some(parent), Value::Object(span)) = (self.parent_span_id, &mut span) {
            span.insert("parentSpanId".to_owned(), parent.into());
        }
        span
    }
}

/// In OTLP's JSON, 64-bit numbers are strings, and there is no time before 1970.
fn unix_nanos(time: Timestamp) -> String {
    time.as_nanos().max(0).to_string()
}

/// Returns the body of a request with these spans.
pub(crate) fn request(resource: &Resource, spans: Vec<Value>) -> Value {
    let attribute = |(key, value): (&String, &String)| json!({"key": key, "value": {"stringValue": value}});
    let attributes: Vec<Value> = resource.attributes.iter().map(attribute).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes},
        "scopeSpans": [{"scope": {"name": "agent-sre", "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
    }]})
}

/// Creates a score without the fields that are `None`.
pub(crate) fn score<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Returns a time in Langfuse's format.
pub(crate) fn time(time: Timestamp) -> Option<Value> {
    serde_json::to_value(time).ok()
}
