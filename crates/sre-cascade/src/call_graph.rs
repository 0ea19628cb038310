use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::{FxHashSet, FxHasher};
use sre_core::{Target, TargetKind};

use crate::CircuitBreaker;
use crate::breaker::Settings;

/// Everything that is watched, by name and by number, and who calls whom.
#[derive(Debug)]
pub(crate) struct CallGraph {
    breakers: Vec<Arc<CircuitBreaker>>,
    ids: HashTable<u32>,
    /// Who calls those that anybody calls.
    callers: Vec<Vec<u32>>,
    /// For each target, which of these lists is its own.
    list_of: Vec<u32>,
    calls: FxHashSet<(u32, u32)>,
    max_targets: usize,
    max_calls: usize,
    /// Targets and calls that found no room.
    pub(crate) overflow: u64,
}

/// No list: nobody calls it.
const NO_CALLERS: u32 = u32::MAX;

impl CallGraph {
    pub(crate) fn new(max_targets: usize, max_calls: usize) -> Self {
        Self {
            breakers: Vec::new(),
            ids: HashTable::new(),
            callers: Vec::new(),
            list_of: Vec::new(),
            calls: FxHashSet::default(),
            max_targets,
            max_calls,
            overflow: 0,
        }
    }

    pub(crate) fn find(&self, kind: TargetKind, name: &str) -> Option<u32> {
        let is_it = |id: &u32| {
            let target = self.breakers[*id as usize].target();
            target.kind == kind && target.name == name
        };
        self.ids.find(hash(kind, name), is_it).copied()
    }

    /// The number of a target, which is made if need be; `None` where there is no room for it.
    pub(crate) fn add(&mut self, kind: TargetKind, name: &str, settings: &Arc<Settings>) -> Option<u32> {
        if let Some(id) = self.find(kind, name) {
            return Some(id);
        }
        let id = u32::try_from(self.breakers.len()).ok().filter(|id| (*id as usize) < self.max_targets);
        let Some(id) = id else {
            self.overflow += 1;
            return None;
        };
        let target = Target { kind, name: name.to_owned() };
        self.breakers.push(Arc::new(CircuitBreaker::shared(target, id, settings.clone())));
        self.list_of.push(NO_CALLERS);
        let breakers = &self.breakers;
        self.ids.insert_unique(hash(kind, name), id, |id| {
            let target = breakers[*id as usize].target();
            hash(target.kind, &target.name)
        });
        Some(id)
    }

    pub(crate) fn breaker(&self, id: u32) -> &Arc<CircuitBreaker> {
        &self.breakers[id as usize]
    }

    pub(crate) fn breakers(&self) -> &[Arc<CircuitBreaker>] {
        &self.breakers
    }

    pub(crate) fn has_call(&self, caller: u32, callee: u32) -> bool {
        caller == callee || self.calls.contains(&(caller, callee))
    }

    pub(crate) fn add_call(&mut self, caller: u32, callee: u32) {
        if self.has_call(caller, callee) {
            return;
        }
        if self.calls.len() >= self.max_calls {
            self.overflow += 1;
            return;
        }
        self.calls.insert((caller, callee));
        let list = &mut self.list_of[callee as usize];
        if *list == NO_CALLERS {
            *list = self.callers.len() as u32;
            self.callers.push(Vec::new());
        }
        self.callers[*list as usize].push(caller);
    }

    pub(crate) fn callers(&self, id: u32) -> &[u32] {
        self.callers.get(self.list_of[id as usize] as usize).map_or(&[], Vec::as_slice)
    }

    /// Whoever calls one of `from`, directly or not, nearest first and without `from` itself.
    pub(crate) fn all_callers(&self, from: &[u32]) -> Vec<u32> {
        let mut seen = vec![0u64; self.breakers.len().div_ceil(64)];
        let mut see = |id: u32| {
            let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
            let is_new = seen[word] & bit == 0;
            seen[word] |= bit;
            is_new
        };
        let mut queue: VecDeque<u32> = from.iter().copied().filter(|id| see(*id)).collect();
        let mut found = Vec::new();
        while let Some(id) = queue.pop_front() {
            for &caller in self.callers(id) {
                if see(caller) {
                    found.push(caller);
                    queue.push_back(caller);
                }
            }
        }
        found
    }
}

fn hash(kind: TargetKind, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    (kind, name).hash(&mut hasher);
    hasher.finish()
}
