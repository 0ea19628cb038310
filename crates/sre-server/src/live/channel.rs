use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use agent_sre::private::lock;
use bytes::Bytes;
use tokio::sync::watch;

use super::PageParts;

/// Number of updates that a reader may be behind; beyond, it receives all parts again.
const RECENT: usize = 8;

/// The updates of a view. Its memory does not depend on the number of readers: all share the bytes of an update, and one that is
/// slow skips updates.
pub(crate) struct Channel {
    id: String,
    state: Mutex<State>,
    /// The number of the last update; 0 before the first.
    latest: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    latest: u64,
    parts: PageParts,
    /// The last updates, up to the latest.
    recent: VecDeque<Bytes>,
    /// The latest content as a whole, once a reader has needed it.
    whole: Option<Bytes>,
}

impl Channel {
    /// Creates a channel without content. `id` distinguishes it from all others, also those of earlier processes.
    pub(super) fn new(id: String) -> Self {
        Self { id, state: Mutex::default(), latest: watch::Sender::new(0) }
    }

    pub(crate) fn has_readers(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Returns whether it has had no content so far.
    pub(crate) fn is_new(&self) -> bool {
        *self.latest.borrow() == 0
    }

    /// Replaces the content, and sends what has changed.
    pub(crate) fn update(&self, parts: PageParts) {
        let mut state = lock(&self.state);
        let changes = parts.changes(&state.parts);
        if state.latest > 0 && changes.is_none() {
            return;
        }
        state.latest += 1;
        state.parts = parts;
        state.whole = None;
        if let Some(changes) = changes {
            let event = self.event(state.latest, &changes);
            state.recent.push_back(event);
        }
        if state.recent.len() > RECENT {
            state.recent.pop_front();
        }
        let latest = state.latest;
        drop(state);
        self.latest.send_replace(latest);
    }

    pub(super) fn subscribe(self: &Arc<Self>, last: Option<&str>) -> Subscription {
        let seen = last.and_then(|id| id.strip_prefix(&*self.id)?.strip_prefix('-')?.parse().ok());
        Subscription { channel: self.clone(), latest: self.latest.subscribe(), seen }
    }

    /// Returns the update after `seen`, or the whole content if that is too long ago, and its number.
    fn after(&self, seen: Option<u64>) -> Option<(u64, Bytes)> {
        let mut state = lock(&self.state);
        let latest = state.latest;
        if latest == 0 || seen == Some(latest) {
            return None;
        }
        let behind = seen.and_then(|seen| usize::try_from(latest.checked_sub(seen)?).ok());
        let next = behind.and_then(|behind| state.recent.len().checked_sub(behind));
        if let (Some(seen), Some(next)) = (seen.filter(|seen| *seen > 0), next) {
            return Some((seen + 1, state.recent[next].clone()));
        }
        let whole = state.whole.take().unwrap_or_else(|| self.event(latest, &state.parts.whole()));
        state.whole = Some(whole.clone());
        Some((latest, whole))
    }

    /// Returns a server-sent event with these data, which have no line breaks.
    fn event(&self, number: u64, data: &str) -> Bytes {
        format!("id: {}-{number}\ndata: {data}\n\n", self.id).into()
    }
}

/// A reader of a channel.
pub(crate) struct Subscription {
    channel: Arc<Channel>,
    latest: watch::Receiver<u64>,
    /// The number of the last update that the reader has.
    seen: Option<u64>,
}

impl Subscription {
    /// Returns the next event, once there is one.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            self.latest.mark_unchanged();
            if let Some((number, event)) = self.channel.after(self.seen) {
                self.seen = Some(number);
                return event;
            }
            if self.latest.changed().await.is_err() {
                // Never: the channel has the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::Value;

    use super::*;

    fn parts(count: u64) -> PageParts {
        let mut parts = PageParts::default();
        parts.insert("count", count);
        parts.insert("constant", "x".repeat(100));
        parts
    }

    fn read(subscription: &mut Subscription) -> Option<(String, Value)> {
        let event = subscription.next().now_or_never()?;
        let (id, data) = std::str::from_utf8(&event).unwrap().trim_end().split_once("\ndata: ").unwrap();
        Some((id.strip_prefix("id: ").unwrap().to_owned(), serde_json::from_str(data).unwrap()))
    }

    fn channel() -> Arc<Channel> {
        Arc::new(Channel::new("a".to_owned()))
    }

    #[test]
    fn a_reader_gets_all_parts_and_then_the_changes() {
        let channel = channel();
        let mut reader = channel.subscribe(None);
        assert_eq!(read(&mut reader), None);
        (1..=3).for_each(|count| channel.update(parts(count)));
        let (id, whole) = read(&mut reader).unwrap();
        assert_eq!((&*id, &whole["whole"], &whole["parts"]["count"]), ("a-3", &true.into(), &3.into()));
        assert_eq!(read(&mut reader), None);
        channel.update(parts(3));
        assert_eq!(read(&mut reader), None, "nothing has changed");
        (4..=5).for_each(|count| channel.update(parts(count)));
        for count in 4..=5 {
            let (id, change) = read(&mut reader).unwrap();
            assert_eq!((id, &change["whole"]), (format!("a-{count}"), &false.into()));
            assert_eq!(change["parts"], serde_json::json!({"count": count}));
        }
    }

    #[test]
    fn a_reader_that_comes_back_gets_what_it_missed_or_all_parts() {
        let channel = channel();
        (1..=20).for_each(|count| channel.update(parts(count)));
        for (last, number, whole) in [
            ("a-19", 20, false),
            ("a-12", 13, false),
            ("a-11", 20, true),
            ("a-0", 20, true),
            ("a-99", 20, true),
            ("b-19", 20, true),
            ("nonsense", 20, true),
            ("", 20, true),
        ] {
            let (id, update) = read(&mut channel.subscribe(Some(last))).unwrap();
            assert_eq!((id, &update["whole"]), (format!("a-{number}"), &whole.into()), "{last}");
        }
        assert_eq!(read(&mut channel.subscribe(Some("a-20"))), None);
    }

    #[test]
    fn readers_share_the_bytes_of_an_update_and_few_updates_are_kept() {
        let channel = channel();
        channel.update(parts(1));
        let mut readers: Vec<_> = (0..100).map(|_| channel.subscribe(None)).collect();
        let address = |reader: &mut Subscription| reader.next().now_or_never().unwrap().as_ptr();
        for count in 2..=30 {
            let first = address(&mut readers[0]);
            assert!(readers[1..].iter_mut().all(|reader| address(reader) == first), "update {count}");
            channel.update(parts(count));
        }
        assert_eq!(lock(&channel.state).recent.len(), RECENT);
    }
}
