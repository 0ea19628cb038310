use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;
use smol_str::SmolStr;

use crate::account::Account;

/// Accounts by their agents' names. A short name lies beside its account, so that to find one takes a single look into memory.
#[derive(Default)]
pub(crate) struct Accounts(HashTable<(SmolStr, Account)>);

/// A name and its hash, made once an operation.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) text: &'a str,
    hash: u64,
}

impl<'a> Name<'a> {
    #[inline]
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, hash: hash_of(text) }
    }

    /// Which of so many parts of the books it belongs to: by other bits than those that place it within the part.
    #[inline]
    pub(crate) fn part(self, of: usize) -> usize {
        (self.hash >> 40) as usize % of
    }
}

impl Accounts {
    pub(crate) fn get(&self, name: Name<'_>) -> Option<&Account> {
        self.0.find(name.hash, |(known, _)| known == name.text).map(|(_, account)| account)
    }

    pub(crate) fn get_mut(&mut self, name: Name<'_>) -> Option<&mut Account> {
        self.0.find_mut(name.hash, |(known, _)| known == name.text).map(|(_, account)| account)
    }

    /// The account, made by `new` if need be and there are fewer than `most`.
    #[inline]
    pub(crate) fn get_or_make(
        &mut self,
        name: Name<'_>,
        most: usize,
        new: impl FnOnce() -> Account,
    ) -> Option<&mut Account> {
        let has_room = self.0.len() < most;
        let is_it = |(known, _): &(SmolStr, Account)| known == name.text;
        match self.0.entry(name.hash, is_it, |(known, _)| hash_of(known)) {
            Entry::Occupied(entry) => Some(&mut entry.into_mut().1),
            Entry::Vacant(entry) if has_room => Some(&mut entry.insert((name.text.into(), new())).into_mut().1),
            Entry::Vacant(_) => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.0.iter().map(|(name, account)| (name.as_str(), account))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Account)> {
        self.0.iter_mut().map(|(name, account)| (name.as_str(), account))
    }

    /// Forgets those who did nothing for a day.
    pub(crate) fn forget_idle(&mut self) {
        self.0.retain(|(_, account)| !account.is_idle());
    }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}
