use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;

use crate::account::AccountCell;

/// Accounts by agent name. The table holds pointers alone, so that it stays in a cache with many agents; names are beside the accounts.
#[derive(Default)]
pub(crate) struct Accounts(HashTable<SharedAccount>);

pub(crate) type SharedAccount = Arc<AccountCell>;

/// An agent's name with its hash, computed once per operation.
#[derive(Clone, Copy)]
pub(crate) struct AgentKey<'a> {
    name: &'a str,
    hash: u64,
}

impl<'a> AgentKey<'a> {
    #[inline]
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, hash: hash_of(name) }
    }

    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    /// Returns one of `count` partitions, by other bits of the hash than those that select a slot in a table.
    pub(crate) fn partition(self, count: usize) -> usize {
        (self.hash >> 40) as usize % count
    }
}

impl Accounts {
    #[inline]
    pub(crate) fn get(&self, key: AgentKey<'_>) -> Option<&SharedAccount> {
        self.0.find(key.hash, |account| account.name() == key.name)
    }

    /// Returns the account, inserted from `make` if absent; `None` if `make` returns none.
    #[inline]
    pub(crate) fn get_or_insert(
        &mut self,
        key: AgentKey<'_>,
        make: impl FnOnce() -> Option<SharedAccount>,
    ) -> Option<&SharedAccount> {
        match self.0.entry(key.hash, |account| account.name() == key.name, |account| hash_of(account.name())) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(make()?).into_mut()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SharedAccount> {
        self.0.iter()
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&SharedAccount) -> bool) {
        self.0.retain(|account| keep(account));
    }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}
