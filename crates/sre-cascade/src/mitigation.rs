use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::CircuitBreaker;

/// What a detector does to the callers of failing targets, before they fail too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mitigation {
    /// Nothing.
    #[default]
    None,
    /// Opens their circuits, which recover as after failures.
    Open,
    /// Limits them to one call per interval until the cascade ends.
    Limit(Duration),
}

/// The targets to which a mitigation is applied.
#[derive(Default)]
pub(crate) struct Mitigated(FxHashSet<u32>);

impl FromIterator<u32> for Mitigated {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

/// The targets whose mitigation begins or ends.
#[derive(Default)]
pub(crate) struct MitigationPlan {
    pub(crate) apply: Vec<u32>,
    pub(crate) lift: Vec<u32>,
}

impl Mitigation {
    pub(crate) fn apply(self, breaker: &CircuitBreaker) {
        match self {
            Self::None => {}
            Self::Open => breaker.trip("a dependency is failing"),
            Self::Limit(interval) => breaker.limit(Some(interval)),
        }
    }

    pub(crate) fn lift(self, breaker: &CircuitBreaker) {
        match self {
            Self::None | Self::Open => {}
            Self::Limit(_) => breaker.limit(None),
        }
    }
}

impl Mitigated {
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.0.contains(&id)
    }

    /// Returns the targets, in order.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.0.iter().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Plans the mitigation of exactly these callers. A circuit opened by it stays mitigated until it has closed.
    pub(crate) fn plan(
        &mut self,
        mitigation: Mitigation,
        callers: FxHashSet<u32>,
        has_closed: impl Fn(u32) -> bool,
    ) -> MitigationPlan {
        match mitigation {
            Mitigation::None => MitigationPlan::default(),
            Mitigation::Open => {
                self.0.retain(|id| !has_closed(*id));
                let apply = callers.into_iter().filter(|id| self.0.insert(*id)).collect();
                MitigationPlan { apply, lift: Vec::new() }
            }
            Mitigation::Limit(_) => {
                let lift = self.0.difference(&callers).copied().collect();
                let apply = callers.difference(&self.0).copied().collect();
                self.0 = callers;
                MitigationPlan { apply, lift }
            }
        }
    }
}
