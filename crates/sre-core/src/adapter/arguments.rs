use std::hash::Hasher;

use serde_json::Value;

/// A digest of a tool call's arguments: equal for equal JSON, whatever its spacing and the order of its keys.
///
/// It tells whether a call repeats an earlier one. It does not hide arguments from somebody who can guess them.
///
/// ```
/// use sre_core::arguments_hash;
/// assert_eq!(arguments_hash(r#"{"a": 1, "b": 2}"#), arguments_hash(r#"{"b":2,"a":1}"#));
/// assert_ne!(arguments_hash("{}"), arguments_hash("[]"));
/// ```
pub fn arguments_hash(arguments: &str) -> String {
    // serde_json keeps the keys of an object sorted, so printing what was parsed is canonical.
    let canonical = match serde_json::from_str::<Value>(arguments) {
        Ok(value) => value.to_string(),
        Err(_) => arguments.to_owned(),
    };
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(canonical.as_bytes());
    let first = hasher.finish();
    hasher.write_u64(canonical.len() as u64);
    format!("{first:016x}{:016x}", hasher.finish())
}
