use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use sre_core::Timestamp;

use crate::fingerprint::{ByFingerprint, Fingerprint};
use crate::message::Message;

/// The messages of one channel, delivered in order for each key. While a message is in flight or waits for its retry, later
/// ones of its key wait behind it; other keys do not.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: VecDeque<Message>,
    /// Messages whose predecessor of the same key has finished.
    unblocked: VecDeque<Message>,
    /// The keys with a message in flight or waiting for its retry, and the messages behind it.
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
    /// Returns the number of unfinished messages, including those in flight.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of messages in flight.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.len += 1;
        self.ready.push_back(message);
    }

    /// Takes the next message to attempt. Each message is moved at most twice, however long the queue.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Message> {
        if let Some(message) = self.unblocked.pop_front() {
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

    /// Notes that the message in flight of this key was delivered or given up, and unblocks the next.
    pub(crate) fn finish(&mut self, key: Fingerprint) {
        self.running -= 1;
        self.len -= 1;
        match self.busy.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.unblocked.push_back(next),
            None => drop(self.busy.remove(&key)),
        }
    }

    /// Puts a message in flight back, to be attempted again at this time.
    pub(crate) fn retry(&mut self, message: Message, at: Timestamp) {
        self.running -= 1;
        self.retries.push(Reverse(Retry { at, message }));
    }

    /// Returns when the next retry is due.
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
