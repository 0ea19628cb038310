use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::{SpanId, TraceId, Usd};

/// A JSON object that borrows its keys and texts, for the bodies of exporters.
///
/// A later entry replaces an earlier one of the same key, and any entry one of the attributes. `None` adds nothing, and so do
/// numbers that are not finite, which JSON cannot represent.
///
/// ```
/// use sre_core::JsonObject;
/// let mut object = JsonObject::default();
/// object.put("model", "gpt-4o-mini");
/// object.put("tokens", 13_u64);
/// object.put("cost", f64::NAN);
/// object.put("model", Some("gpt-4o"));
/// assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"model":"gpt-4o","tokens":13}"#);
/// ```
#[derive(Clone, Debug, Default)]
pub struct JsonObject<'a> {
    attributes: Vec<&'a BTreeMap<String, Value>>,
    entries: Vec<(Cow<'a, str>, JsonEntry<'a>)>,
}

/// A value of a [`JsonObject`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JsonEntry<'a> {
    /// No entry.
    None,
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Integer(u64),
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// The id of a trace, as a text.
    TraceId(TraceId),
    /// The id of a span, as a text.
    SpanId(SpanId),
}

impl<'a> JsonObject<'a> {
    /// Creates an object with the attributes of an event.
    pub fn with_attributes(attributes: &'a BTreeMap<String, Value>) -> Self {
        let attributes = if attributes.is_empty() { Vec::new() } else { vec![attributes] };
        Self { attributes, entries: Vec::with_capacity(12) }
    }

    /// Adds an entry.
    pub fn put(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<JsonEntry<'a>>) {
        let (key, value) = (key.into(), value.into());
        if matches!(value, JsonEntry::None) || matches!(value, JsonEntry::Number(number) if !number.is_finite()) {
            return;
        }
        match self.entries.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Adds the entries and attributes of another object.
    pub fn merge(&mut self, other: Self) {
        self.attributes.extend(other.attributes);
        other.entries.into_iter().for_each(|(key, value)| self.put(key, value));
    }

    /// Returns true if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.entries.is_empty()
    }
}

impl Serialize for JsonObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (place, attributes) in self.attributes.iter().enumerate() {
            for (key, value) in *attributes {
                let is_replaced = self.entries.iter().any(|(own, _)| own == key)
                    || self.attributes[place + 1..].iter().any(|later| later.contains_key(key));
                if !is_replaced {
                    map.serialize_entry(key, value)?;
                }
            }
        }
        for (key, value) in &self.entries {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for JsonEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_u64(*number),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::TraceId(id) => id.serialize(serializer),
            Self::SpanId(id) => id.serialize(serializer),
        }
    }
}

macro_rules! entry_from {
    ($($type:ty, $value:ident => $entry:expr;)*) => {
        $(impl<'a> From<$type> for JsonEntry<'a> {
            fn from($value: $type) -> Self {
                $entry
            }
        })*
    };
}

entry_from! {
    &'a str, text => Self::Text(text.into());
    &'a String, text => Self::Text(text.into());
    String, text => Self::Text(text.into());
    u64, number => Self::Integer(number);
    u32, number => Self::Integer(number.into());
    u16, number => Self::Integer(number.into());
    f64, number => Self::Number(number);
    bool, value => Self::Bool(value);
    TraceId, id => Self::TraceId(id);
    SpanId, id => Self::SpanId(id);
    Usd, amount => Self::Text(amount.to_string().into());
}

impl<'a, T: Into<JsonEntry<'a>>> From<Option<T>> for JsonEntry<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_is_there_once_and_the_last_value_stays() {
        let first = BTreeMap::from([("a".to_owned(), json!(1)), ("b".to_owned(), json!({"x": null}))]);
        let second = BTreeMap::from([("a".to_owned(), json!(2)), ("c".to_owned(), json!(3))]);
        let mut object = JsonObject::with_attributes(&first);
        object.put("c", "own");
        let mut other = JsonObject::with_attributes(&second);
        other.put("d", 1_u64);
        object.put("d", 0_u64);
        object.merge(other);
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"b":{"x":null},"a":2,"c":"own","d":1}"#);
        assert!(JsonObject::with_attributes(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_json_cannot_represent_is_left_out() {
        let mut object = JsonObject::default();
        object.put("a", f64::INFINITY);
        object.put("b", None::<f64>);
        object.put("c", Some(f64::NAN));
        assert!(object.is_empty());
    }
}
