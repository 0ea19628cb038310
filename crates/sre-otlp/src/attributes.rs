use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
use serde_json::Value;

/// A builder of attributes. A value that is `None` adds nothing.
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// Adds a text.
    pub fn text<'a>(&mut self, key: &str, value: impl Into<Option<&'a str>>) {
        if let Some(value) = value.into() {
            self.add(key, any_value::Value::StringValue(value.to_owned()));
        }
    }

    /// Adds a whole number.
    pub fn int(&mut self, key: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.add(key, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }

    /// Adds a number.
    pub fn double(&mut self, key: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.add(key, any_value::Value::DoubleValue(value));
        }
    }

    /// Adds a boolean.
    pub fn bool(&mut self, key: &str, value: impl Into<Option<bool>>) {
        if let Some(value) = value.into() {
            self.add(key, any_value::Value::BoolValue(value));
        }
    }

    /// Adds a JSON value. An object becomes a text, which every backend can show; `null` adds nothing.
    pub fn json(&mut self, key: &str, value: &Value) {
        if let Some(value) = any(value) {
            self.0.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() });
        }
    }

    /// Adds a mapping, for backends that read its entries one by one.
    pub fn map(&mut self, key: &str, entries: Attributes) {
        self.add(key, any_value::Value::KvlistValue(KeyValueList { values: entries.0 }));
    }

    /// Returns the attributes.
    pub fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }

    fn add(&mut self, key: &str, value: any_value::Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

fn any(value: &Value) -> Option<AnyValue> {
    let value = match value {
        Value::Null => return None,
        Value::Bool(value) => any_value::Value::BoolValue(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => any_value::Value::IntValue(value),
            None => any_value::Value::DoubleValue(number.as_f64()?),
        },
        Value::String(text) => any_value::Value::StringValue(text.clone()),
        Value::Array(values) => {
            any_value::Value::ArrayValue(ArrayValue { values: values.iter().filter_map(any).collect() })
        }
        Value::Object(_) => any_value::Value::StringValue(value.to_string()),
    };
    Some(AnyValue { value: Some(value) })
}
