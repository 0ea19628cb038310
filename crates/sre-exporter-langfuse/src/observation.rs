use serde_json::{Map, Value};
use sre_core::Timestamp;
use sre_otlp::Attributes;

/// The attributes of an observation.
#[derive(Default)]
pub(crate) struct Observation(pub(crate) Attributes);

impl Observation {
    /// Adds an attribute. Langfuse reads numbers and objects from texts.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        match value.into() {
            Value::Bool(value) => self.0.bool(key, value),
            Value::String(text) => self.0.text(key, text.as_str()),
            other => self.0.text(key, other.to_string().as_str()),
        }
    }

    /// Adds a metadata entry.
    pub(crate) fn set_metadata(&mut self, key: &str, value: impl Into<Value>) {
        self.set(&format!("langfuse.observation.metadata.{key}"), value);
    }

    pub(crate) fn fail(&mut self, message: &str) {
        self.set("langfuse.observation.level", "ERROR");
        self.set("langfuse.observation.status_message", message);
    }
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
