use serde::Serialize;
use serde_json::Value;

use crate::Encoder;

/// Writes attributes into a message. A value that is `None` adds nothing.
///
/// ```
/// let mut resource = sre_otlp::Encoder::default();
/// let mut attributes = resource.attributes(1);
/// attributes.text("service.name", "support");
/// attributes.prefixed("metadata.").int("tasks", 7);
/// assert!(resource.as_bytes().ends_with(b"metadata.tasks\x12\x02\x18\x07"));
/// ```
#[derive(Debug)]
pub struct Attributes<'a> {
    message: &'a mut Encoder,
    field: u8,
    prefix: &'static str,
}

// The fields of `AnyValue`.
const TEXT: u8 = 1;
const BOOL: u8 = 2;
const INT: u8 = 3;
const DOUBLE: u8 = 4;
const ARRAY: u8 = 5;
const MAP: u8 = 6;

impl<'a> Attributes<'a> {
    pub(crate) const fn new(message: &'a mut Encoder, field: u8) -> Self {
        Self { message, field, prefix: "" }
    }

    /// Returns a writer of attributes whose keys begin with `prefix`.
    pub const fn prefixed(&mut self, prefix: &'static str) -> Attributes<'_> {
        Attributes { message: self.message, field: self.field, prefix }
    }

    /// Adds a text.
    pub fn text<'v>(&mut self, key: &str, value: impl Into<Option<&'v str>>) {
        if let Some(value) = value.into() {
            self.texts(key, &[value]);
        }
    }

    /// Adds a text, which is the concatenation of the parts.
    pub fn texts(&mut self, key: &str, parts: &[&str]) {
        self.message.text_attribute(self.field, [self.prefix, key], parts);
    }

    /// Adds a whole number.
    pub fn int(&mut self, key: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            // The type in OTLP is signed.
            self.add(key, |any| any.uint(INT, value.min(i64::MAX as u64)));
        }
    }

    /// Adds a number.
    pub fn double(&mut self, key: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.add(key, |any| any.double(DOUBLE, value));
        }
    }

    /// Adds a boolean.
    pub fn bool(&mut self, key: &str, value: impl Into<Option<bool>>) {
        if let Some(value) = value.into() {
            self.add(key, |any| any.uint(BOOL, value.into()));
        }
    }

    /// Adds a JSON value. An object becomes a text, which every backend can show; `null` adds nothing.
    pub fn json(&mut self, key: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(text) => self.text(key, text.as_str()),
            value => self.add(key, |any| write_any(any, value)),
        }
    }

    /// Adds a text that is the JSON of a value, for backends that read numbers and objects from texts.
    pub fn json_text(&mut self, key: &str, value: &impl Serialize) {
        self.add(key, |any| any.text_with(TEXT, |text| write_json(text, value)));
    }

    /// Adds a mapping, for backends that read its entries one by one.
    pub fn map(&mut self, key: &str, write: impl FnOnce(&mut Attributes<'_>)) {
        self.add(key, |any| any.message(MAP, |map| write(&mut map.attributes(1))));
    }

    fn add(&mut self, key: &str, write: impl FnOnce(&mut Encoder)) {
        self.message.message(self.field, |entry| {
            entry.text(1, &[self.prefix, key]);
            entry.message(2, write);
        });
    }
}

fn write_any(any: &mut Encoder, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(value) => any.uint(BOOL, (*value).into()),
        Value::Number(number) => match number.as_i64() {
            Some(value) => any.uint(INT, value.cast_unsigned()),
            None => any.double(DOUBLE, number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => any.text(TEXT, &[text]),
        Value::Array(values) => any.message(ARRAY, |array| {
            let known = values.iter().filter(|value| !value.is_null());
            known.for_each(|value| array.message(1, |any| write_any(any, value)));
        }),
        Value::Object(_) => any.text_with(TEXT, |text| write_json(text, value)),
    }
}

fn write_json(text: &mut Vec<u8>, value: &impl Serialize) {
    // Only maps whose keys are no texts cannot be JSON, and writing to a vector cannot fail.
    let _ = serde_json::to_writer(text, value);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn written(write: impl FnOnce(&mut Attributes<'_>)) -> Vec<KeyValue> {
        let mut resource = Encoder::default();
        write(&mut resource.attributes(1));
        Resource::decode(resource.as_bytes()).unwrap().attributes
    }

    fn entry(key: &str, value: Any) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn text(value: &str) -> Any {
        Any::StringValue(value.to_owned())
    }

    #[test]
    fn every_type_is_read_by_prost() {
        let found = written(|attributes| {
            attributes.text("text", "ä");
            attributes.int("int", u64::MAX);
            attributes.double("double", -0.5);
            attributes.bool("bool", false);
            attributes.json_text("json", &json!({"a": [1, null]}));
            attributes.map("map", |map| map.int("a", 300));
            attributes.prefixed("x.").text("y", "z");
            attributes.text("none", None);
        });
        let values = vec![entry("a", Any::IntValue(300))];
        let expected = [
            entry("text", text("ä")),
            entry("int", Any::IntValue(i64::MAX)),
            entry("double", Any::DoubleValue(-0.5)),
            entry("bool", Any::BoolValue(false)),
            entry("json", text(r#"{"a":[1,null]}"#)),
            entry("map", Any::KvlistValue(KeyValueList { values })),
            entry("x.y", text("z")),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_object_is_a_text_and_null_is_nothing() {
        let value = json!([null, "a", -1, 1.5, true, {"b": 2}, u64::MAX]);
        let found = written(|attributes| {
            attributes.json("list", &value);
            attributes.json("null", &Value::Null);
            attributes.json("object", &value[5]);
        });
        let items = [text("a"), Any::IntValue(-1), Any::DoubleValue(1.5), Any::BoolValue(true), text(r#"{"b":2}"#)];
        let items = items.into_iter().chain([Any::DoubleValue(u64::MAX as f64)]);
        let values = items.map(|value| AnyValue { value: Some(value) }).collect();
        let expected = [entry("list", Any::ArrayValue(ArrayValue { values })), entry("object", text(r#"{"b":2}"#))];
        assert_eq!(found, expected);
    }
}
