use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// Sends the changes of the page to all its subscribers.
pub(crate) struct Broadcast(pub(crate) broadcast::Sender<Arc<str>>);

/// A subscriber that falls this number of updates behind receives all parts again.
const CAPACITY: usize = 16;

impl Default for Broadcast {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

/// The parts of the page by key.
#[derive(Default)]
pub(crate) struct PageParts(BTreeMap<String, Value>);

impl PageParts {
    pub(crate) fn insert(&mut self, key: impl Into<String>, value: impl Serialize) {
        self.0.insert(key.into(), json!(value));
    }

    /// Returns the parts that differ from `before` as JSON, or `None` if none does; without `before`, all parts.
    pub(crate) fn changes(&self, before: Option<&Self>) -> Option<String> {
        let has_changed =
            |(key, value): &(&String, &Value)| before.is_none_or(|before| before.0.get(*key) != Some(*value));
        let changed: BTreeMap<_, _> = self.0.iter().filter(has_changed).collect();
        let gone = before.iter().flat_map(|before| before.0.keys()).filter(|key| !self.0.contains_key(*key));
        let gone: Vec<&String> = gone.collect();
        if before.is_some() && changed.is_empty() && gone.is_empty() {
            return None;
        }
        Some(json!(LiveUpdate { whole: before.is_none(), parts: changed, gone }).to_string())
    }
}

/// The data of an event of `/v1/live`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LiveUpdate<'a> {
    /// Whether it has all parts: those that are missing no longer exist.
    whole: bool,
    /// The new values by key.
    #[schema(value_type = Object)]
    parts: BTreeMap<&'a String, &'a Value>,
    /// The keys of parts that no longer exist.
    #[schema(value_type = Vec<String>)]
    gone: Vec<&'a String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_parts_are_sent() {
        let parts = |pairs: &[(&str, u64)]| {
            PageParts(pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
        };
        let before = parts(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(before.changes(Some(&parts(&[("a", 1), ("b", 1), ("c", 1)]))), None);
        let after = parts(&[("a", 1), ("b", 2), ("d", 1)]);
        let changes: Value = serde_json::from_str(&after.changes(Some(&before)).unwrap()).unwrap();
        assert_eq!(changes, json!({"whole": false, "parts": {"b": 2, "d": 1}, "gone": ["c"]}));
        let whole: Value = serde_json::from_str(&after.changes(None).unwrap()).unwrap();
        assert_eq!((whole["whole"].as_bool(), whole["parts"].as_object().unwrap().len()), (Some(true), 3));
    }
}
