use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Sends what the page shows to everybody who has it open, as it changes.
pub(crate) struct Broadcast(pub(crate) broadcast::Sender<Arc<str>>);

/// Who falls so many updates behind gets everything again.
const MAX_BEHIND: usize = 16;

impl Default for Broadcast {
    fn default() -> Self {
        Self(broadcast::channel(MAX_BEHIND).0)
    }
}

/// Every part of the page by its key; a value is sent again when it has changed.
#[derive(Default)]
pub(crate) struct PageParts(BTreeMap<String, Value>);

impl PageParts {
    pub(crate) fn insert(&mut self, key: impl Into<String>, value: impl Serialize) {
        self.0.insert(key.into(), json!(value));
    }

    /// Returns everything, or what differs from `before`; `None` where nothing does.
    pub(crate) fn changes(&self, before: Option<&Self>) -> Option<String> {
        let is_new = |(key, value): &(&String, &Value)| before.is_none_or(|before| before.0.get(*key) != Some(*value));
        let changed: BTreeMap<_, _> = self.0.iter().filter(is_new).collect();
        let gone = before.iter().flat_map(|before| before.0.keys()).filter(|key| !self.0.contains_key(*key));
        let gone: Vec<&String> = gone.collect();
        if before.is_some() && changed.is_empty() && gone.is_empty() {
            return None;
        }
        Some(json!({"whole": before.is_none(), "parts": changed, "gone": gone}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_sent() {
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
