use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;
use smol_str::SmolStr;

use crate::account::Account;

/// Accounts by their agents' names. A short name lies in the table itself, so that to find one takes a single look into
/// memory.
#[derive(Default)]
pub(crate) struct Accounts(HashTable<(SmolStr, SharedAccount)>);

pub(crate) type SharedAccount = Arc<Mutex<Account>>;

/// A name and its hash, made once an operation.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    text: &'a str,
    hash: u64,
}

impl<'a> Name<'a> {
    #[inline]
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, hash: hash_of(text) }
    }

    /// One of so many parts, by other bits than those that place it in a table.
    pub(crate) fn part(self, of: usize) -> usize {
        (self.hash >> 40) as usize % of
    }
}

impl Accounts {
    #[inline]
    pub(crate) fn get(&self, name: Name<'_>) -> Option<&SharedAccount> {
        self.0.find(name.hash, |(known, _)| known == name.text).map(|(_, account)| account)
    }

    /// The account, had from `make` if it is not there, and there is one to be had.
    #[inline]
    pub(crate) fn get_or_add(
        &mut self,
        name: Name<'_>,
        make: impl FnOnce() -> Option<SharedAccount>,
    ) -> Option<&SharedAccount> {
        let is_it = |(known, _): &(SmolStr, SharedAccount)| known == name.text;
        match self.0.entry(name.hash, is_it, |(known, _)| hash_of(known)) {
            Entry::Occupied(entry) => Some(&entry.into_mut().1),
            Entry::Vacant(entry) => Some(&entry.insert((name.text.into(), make()?)).into_mut().1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &SharedAccount)> {
        self.0.iter().map(|(name, account)| (name.as_str(), account))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&SharedAccount) -> bool) {
        self.0.retain(|(_, account)| keep(account));
    }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}
