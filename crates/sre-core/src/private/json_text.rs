//! Saves a value as JSON, for `#[serde(with = "sre_core::private::json_text")]`. Unlike the format of
//! [`StateWriter`](crate::StateWriter), JSON has field names, so that the next version may add fields. Events support
//! no other format.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a value.
pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(&serde_json::to_vec(value).map_err(S::Error::custom)?)
}

/// Reads a value.
pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    serde_json::from_slice(<&[u8]>::deserialize(deserializer)?).map_err(D::Error::custom)
}
