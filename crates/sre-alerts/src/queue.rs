use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use sre_core::Timestamp;

use crate::fingerprint::{ByFingerprint, Fingerprint};
use crate::message::Message;

/// A channel's messages: in order for each key, any order between keys. While one of a key is on its way, or waits to be
/// tried again, those behind it wait too, and those of other keys do not.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: VecDeque<Message>,
    /// Those that were next of their key when the one before them was settled.
    released: VecDeque<Message>,
    /// The keys of which a message is on its way or waits for its next attempt, with what follows it.
    busy: ByFingerprint<VecDeque<Message>>,
    retries: BinaryHeap<Reverse<Retry>>,
    running: usize,
    len: usize,
}

#[derive(Debug)]
struct Retry {
    at: Timestamp,
    message: Message,
}

impl Queue {
    /// How many messages are not settled, those on their way included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many are on their way.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.len += 1;
        self.ready.push_back(message);
    }

    /// The next message to try. Each message is looked at twice at most, however long the queue.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Message> {
        if let Some(message) = self.released.pop_front() {
            self.running += 1;
            return Some(message);
        }
        if self.retries.peek().is_some_and(|retry| retry.0.at <= now) {
            self.running += 1;
            return self.retries.pop().map(|retry| retry.0.message);
        }
        while let Some(message) = self.ready.pop_front() {
            match self.busy.get_mut(&message.key) {
                Some(followers) => followers.push_back(message),
                None => {
                    self.busy.insert(message.key, VecDeque::new());
                    self.running += 1;
                    return Some(message);
                }
            }
        }
        None
    }

    /// The message of that key has been delivered or given up: the next of its key may go.
    pub(crate) fn settle(&mut self, key: Fingerprint) {
        self.running -= 1;
        self.len -= 1;
        match self.busy.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.released.push_back(next),
            None => drop(self.busy.remove(&key)),
        }
    }

    /// The message is to be tried again at that time.
    pub(crate) fn retry(&mut self, message: Message, at: Timestamp) {
        self.running -= 1;
        self.retries.push(Reverse(Retry { at, message }));
    }

    /// When the next attempt is due that waits for its time.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.retries.peek().map(|retry| retry.0.at)
    }
}

impl PartialEq for Retry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Retry {}

impl PartialOrd for Retry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Retry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
