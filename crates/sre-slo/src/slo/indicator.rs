use sre_core::private::unique_name;
use sre_core::{IndicatorSnapshot, Sli, Status, Timestamp};

use crate::evaluation::BudgetReading;
use crate::indicator_policy::MissPolicy;

/// An indicator of an objective.
pub(super) struct Indicator {
    pub(super) sli: Box<dyn Sli>,
    /// The name in snapshots and metrics, unique within the objective.
    pub(super) name: String,
    /// The name of its saved state.
    pub(super) section: String,
    /// Whether it is for information only.
    pub(super) is_informational: bool,
    pub(super) policy: MissPolicy,
}

impl Indicator {
    /// Creates the indicators of an objective, with the names that some of them were given.
    pub(super) fn of_objective(slis: impl IntoIterator<Item = (Box<dyn Sli>, Option<String>, bool)>) -> Vec<Self> {
        let slis: Vec<_> = slis.into_iter().collect();
        let mut taken: Vec<String> = slis.iter().filter_map(|(_, given, _)| given.clone()).collect();
        let mut sections = Vec::new();
        let name_of = |(sli, given, is_informational): (Box<dyn Sli>, Option<String>, bool)| {
            let spec = sli.spec();
            let name = given.unwrap_or_else(|| {
                let name = unique_name(&spec.name, spec.window, &taken);
                taken.push(name.clone());
                name
            });
            let over = format!("{} over {}", spec.name, spec.window);
            let before = sections.iter().filter(|section| **section == over).count();
            let section = if before == 0 { over.clone() } else { format!("{over}, {}", before + 1) };
            sections.push(over);
            Self { sli, name, section, is_informational, policy: MissPolicy::None }
        };
        slis.into_iter().map(name_of).collect()
    }

    pub(super) fn status(&self, now: Timestamp) -> Option<Status> {
        self.policy.status(&*self.sli, now)
    }

    pub(super) fn snapshot(&self, objective: &BudgetReading, now: Timestamp) -> IndicatorSnapshot {
        let mut snapshot = self.policy.snapshot(&*self.sli, objective, now);
        snapshot.name.clone_from(&self.name);
        snapshot
    }
}
