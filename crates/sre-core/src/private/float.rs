//! A number that may not be finite; JSON has such a number as text: `NaN`, `inf` or `-inf`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Float {
    Number(f64),
    Text(String),
}

pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.collect_str(value) }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Float::deserialize(deserializer)? {
        Float::Number(value) => Ok(value),
        Float::Text(text) => text.parse().map_err(D::Error::custom),
    }
}
