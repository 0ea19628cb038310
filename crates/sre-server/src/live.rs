//! The live content of the page: what each view shows, computed once for all its readers.

mod channel;

use std::collections::{BTreeMap, HashMap, hash_map::RandomState};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_sre::private::lock;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Notify;
use utoipa::ToSchema;

pub(crate) use self::channel::{Channel, Subscription};

/// The objectives that a page shows: the most urgent ones that match a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// Words in lower case, each of which must be in the name, the agent or the status.
    pub(crate) words: Vec<String>,
    pub(crate) limit: usize,
}

impl View {
    pub(crate) const DEFAULT_LIMIT: usize = 100;
    pub(crate) const MAX_LIMIT: usize = 500;

    pub(crate) fn new(filter: &str, limit: usize) -> Self {
        let mut words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
        words.sort();
        words.dedup();
        Self { words, limit }
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new("", Self::DEFAULT_LIMIT)
    }
}

/// Maximum number of views besides the default one; each needs memory and time.
const MAX_VIEWS: usize = 32;
/// How long a view without readers is kept, for those that connect again.
const KEEP: Duration = Duration::from_secs(30);

/// All views that are shown, each with a channel to its readers.
pub(crate) struct Views {
    channels: Mutex<HashMap<View, Entry>>,
    /// Distinguishes the updates of this process from those of others.
    process: u64,
    /// A view was added, whose first reader waits.
    pub(crate) added: Notify,
}

struct Entry {
    channel: Arc<Channel>,
    last_read: Instant,
}

/// The limit of views is reached.
#[derive(Debug)]
pub(crate) struct TooManyViews;

impl Default for Views {
    fn default() -> Self {
        Self { channels: Mutex::default(), process: RandomState::new().hash_one(0), added: Notify::new() }
    }
}

impl Views {
    /// Subscribes to a view. `last` is the id of the last update that the reader has.
    pub(crate) fn subscribe(&self, view: View, last: Option<&str>) -> Result<Subscription, TooManyViews> {
        let mut channels = lock(&self.channels);
        if !channels.contains_key(&view) && view != View::default() {
            let is_unused = |entry: &&Entry| !entry.channel.has_readers();
            if channels.len() > MAX_VIEWS {
                let oldest =
                    channels.iter().filter(|(_, entry)| is_unused(entry)).min_by_key(|(_, entry)| entry.last_read);
                let oldest = oldest.map(|(view, _)| view.clone()).ok_or(TooManyViews)?;
                channels.remove(&oldest);
            }
        }
        let entry = channels.entry(view).or_insert_with(|| {
            self.added.notify_one();
            let id = format!("{:x}", RandomState::new().hash_one(self.process));
            Entry { channel: Arc::new(Channel::new(id)), last_read: Instant::now() }
        });
        Ok(entry.channel.subscribe(last))
    }

    /// Returns the views that have readers, and removes those that have had none for some time.
    pub(crate) fn read(&self) -> Vec<(View, Arc<Channel>)> {
        let (mut channels, now) = (lock(&self.channels), Instant::now());
        channels.retain(|_, entry| {
            if entry.channel.has_readers() {
                entry.last_read = now;
            }
            now - entry.last_read < KEEP
        });
        let is_read = |(_, entry): &(&View, &Entry)| entry.channel.has_readers();
        channels.iter().filter(is_read).map(|(view, entry)| (view.clone(), entry.channel.clone())).collect()
    }
}

/// The parts of a page by key, as JSON.
#[derive(Clone, Default)]
pub(crate) struct PageParts(BTreeMap<Arc<str>, Arc<RawValue>>);

impl PageParts {
    pub(crate) fn insert(&mut self, key: impl Into<Arc<str>>, value: impl Serialize) {
        self.insert_part(key.into(), part(value));
    }

    pub(crate) fn insert_part(&mut self, key: Arc<str>, part: Arc<RawValue>) {
        self.0.insert(key, part);
    }

    /// Returns the parts that differ from `before` as JSON, or `None` if none does.
    fn changes(&self, before: &Self) -> Option<String> {
        let has_changed = |(key, value): &(&Arc<str>, &Arc<RawValue>)| {
            before.0.get(*key).is_none_or(|before| !Arc::ptr_eq(before, value) && before.get() != value.get())
        };
        let changed: Vec<_> = self.0.iter().filter(has_changed).collect();
        let gone: Vec<&str> = before.0.keys().filter(|key| !self.0.contains_key(*key)).map(|key| &**key).collect();
        (!changed.is_empty() || !gone.is_empty()).then(|| json(false, changed, gone))
    }

    /// Returns all parts as JSON.
    fn whole(&self) -> String {
        json(true, self.0.iter().collect(), Vec::new())
    }
}

/// Returns a value as JSON; `null` if it is none.
pub(crate) fn part(value: impl Serialize) -> Arc<RawValue> {
    to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned()).into()
}

fn json(whole: bool, parts: Vec<(&Arc<str>, &Arc<RawValue>)>, gone: Vec<&str>) -> String {
    let parts = parts.into_iter().map(|(key, value)| (&**key, &**value)).collect();
    serde_json::to_string(&LiveUpdate { whole, parts, gone }).unwrap_or_default()
}

/// The data of an event of `/v1/live`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LiveUpdate<'a> {
    /// Whether it has all parts: those that are missing no longer exist.
    whole: bool,
    /// The new values by key.
    #[schema(value_type = Object)]
    parts: BTreeMap<&'a str, &'a RawValue>,
    /// The keys of parts that no longer exist.
    #[schema(value_type = Vec<String>)]
    gone: Vec<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_changed_parts_are_sent() {
        let parts = |pairs: &[(&str, u64)]| {
            let mut parts = PageParts::default();
            pairs.iter().for_each(|(key, value)| parts.insert(*key, value));
            parts
        };
        let before = parts(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(before.changes(&parts(&[("a", 1), ("b", 1), ("c", 1)])), None);
        let after = parts(&[("a", 1), ("b", 2), ("d", 1)]);
        let changes: Value = serde_json::from_str(&after.changes(&before).unwrap()).unwrap();
        assert_eq!(changes, json!({"whole": false, "parts": {"b": 2, "d": 1}, "gone": ["c"]}));
        let whole: Value = serde_json::from_str(&after.whole()).unwrap();
        assert_eq!((whole["whole"].as_bool(), whole["parts"].as_object().unwrap().len()), (Some(true), 3));
    }

    #[test]
    fn the_number_of_views_is_bounded_and_the_default_one_is_always_there() {
        let views = Views::default();
        let view = |number: usize| View::new(&format!("agent-{number}"), 10);
        let mut readers: Vec<_> = (0..=MAX_VIEWS).map(|number| views.subscribe(view(number), None).unwrap()).collect();
        assert!(views.subscribe(view(1_000), None).is_err());
        assert!(views.subscribe(view(3), None).is_ok(), "it is there already");
        assert!(views.subscribe(View::default(), None).is_ok());
        // A view without readers makes room.
        readers.remove(5);
        assert!(views.subscribe(view(1_000), None).is_ok());
        assert_eq!(View::new("Well  healthy", 1), View::new("healthy well WELL", 1));
    }
}
