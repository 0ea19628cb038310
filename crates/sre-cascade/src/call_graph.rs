use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::{FxHashSet, FxHasher};
use smallvec::SmallVec;
use sre_core::{Target, TargetKind};

use crate::CircuitBreaker;
use crate::id_set::IdSet;
use crate::settings::Settings;

/// All monitored targets, by name and by id, and who calls whom.
#[derive(Debug)]
pub(crate) struct CallGraph {
    breakers: Vec<Arc<CircuitBreaker>>,
    ids: HashTable<u32>,
    /// Lists of callers, only for targets that have any. Most are short, and a search reads all of them.
    callers: Vec<SmallVec<[u32; 4]>>,
    /// Index into `callers` by target id, or [`NO_CALLERS`].
    caller_list: Vec<u32>,
    calls: FxHashSet<(u32, u32)>,
    max_targets: usize,
    max_calls: usize,
    /// Targets and calls rejected by the limits.
    pub(crate) rejected: u64,
}

const NO_CALLERS: u32 = u32::MAX;

impl CallGraph {
    pub(crate) fn new(max_targets: usize, max_calls: usize) -> Self {
        Self {
            breakers: Vec::new(),
            ids: HashTable::new(),
            callers: Vec::new(),
            caller_list: Vec::new(),
            calls: FxHashSet::default(),
            max_targets,
            max_calls,
            rejected: 0,
        }
    }

    pub(crate) fn find(&self, kind: TargetKind, name: &str) -> Option<u32> {
        let matches = |id: &u32| {
            let target = self.breakers[*id as usize].target();
            target.kind == kind && target.name == name
        };
        self.ids.find(hash(kind, name), matches).copied()
    }

    /// Returns the id of a target, adding it if it is new; `None` if `max_targets` is reached.
    pub(crate) fn add(&mut self, kind: TargetKind, name: &str, settings: &Arc<Settings>) -> Option<u32> {
        if let Some(id) = self.find(kind, name) {
            return Some(id);
        }
        let id = u32::try_from(self.breakers.len()).ok().filter(|id| (*id as usize) < self.max_targets);
        let Some(id) = id else {
            self.rejected += 1;
            return None;
        };
        let target = Target { kind, name: name.to_owned() };
        self.breakers.push(Arc::new(CircuitBreaker::from_settings(target, id, settings.clone())));
        self.caller_list.push(NO_CALLERS);
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

    /// Returns every pair of caller and callee.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (u32, u32)> {
        self.calls.iter().copied()
    }

    pub(crate) fn has_call(&self, caller: u32, callee: u32) -> bool {
        caller == callee || self.calls.contains(&(caller, callee))
    }

    pub(crate) fn add_call(&mut self, caller: u32, callee: u32) {
        if self.has_call(caller, callee) {
            return;
        }
        if self.calls.len() >= self.max_calls {
            self.rejected += 1;
            return;
        }
        self.calls.insert((caller, callee));
        let list = &mut self.caller_list[callee as usize];
        if *list == NO_CALLERS {
            *list = self.callers.len() as u32;
            self.callers.push(SmallVec::new());
        }
        self.callers[*list as usize].push(caller);
    }

    pub(crate) fn callers(&self, id: u32) -> &[u32] {
        self.callers.get(self.caller_list[id as usize] as usize).map_or(&[], SmallVec::as_slice)
    }

    /// Returns the direct and indirect callers of `callees`, nearest first and without `callees` themselves.
    pub(crate) fn all_callers(&self, callees: &[u32]) -> Vec<u32> {
        let mut visited = IdSet::below(self.breakers.len());
        let mut found: Vec<u32> = callees.iter().copied().filter(|id| visited.insert(*id)).collect();
        let (first, mut next) = (found.len(), 0);
        while let Some(&id) = found.get(next) {
            found.extend(self.callers(id).iter().filter(|caller| visited.insert(**caller)));
            next += 1;
        }
        found.drain(..first);
        found
    }
}

fn hash(kind: TargetKind, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    (kind, name).hash(&mut hasher);
    hasher.finish()
}
