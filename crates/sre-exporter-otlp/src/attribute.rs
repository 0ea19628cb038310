use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1;
use serde_json::Value;
use sre_core::Resource;

/// A builder of attributes.
#[derive(Debug, Default)]
pub(crate) struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.add(key, any_value::Value::StringValue(value.to_owned()));
    }

    pub(crate) fn some_text(&mut self, key: &str, value: Option<&str>) {
        value.into_iter().for_each(|value| self.text(key, value));
    }

    pub(crate) fn int(&mut self, key: &str, value: u64) {
        self.add(key, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    pub(crate) fn double(&mut self, key: &str, value: Option<f64>) {
        value.into_iter().for_each(|value| self.add(key, any_value::Value::DoubleValue(value)));
    }

    pub(crate) fn bool(&mut self, key: &str, value: Option<bool>) {
        value.into_iter().for_each(|value| self.add(key, any_value::Value::BoolValue(value)));
    }

    pub(crate) fn json(&mut self, key: &str, value: &Value) {
        if let Some(value) = any(value) {
            self.0.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() });
        }
    }

    fn add(&mut self, key: &str, value: any_value::Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

/// Converts a JSON value to an attribute value. An object becomes a string, which every backend can show.
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

pub(crate) fn resource(resource: &Resource) -> v1::Resource {
    let mut attributes = Attributes::default();
    resource.attributes.iter().for_each(|(key, value)| attributes.text(key, value));
    v1::Resource { attributes: attributes.0, ..v1::Resource::default() }
}

pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "agent-sre".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
