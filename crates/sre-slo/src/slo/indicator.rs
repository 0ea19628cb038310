use sre_core::{IndicatorSnapshot, Sli, SliSpec, Status, Timestamp};

use crate::consequence::Consequence;

/// An indicator of an objective.
pub(super) struct Indicator {
    pub(super) sli: Box<dyn Sli>,
    /// The name in snapshots and metrics, unique within the objective.
    pub(super) name: String,
    /// The name of its saved state.
    pub(super) section: String,
    /// Whether it is for information only.
    pub(super) is_informational: bool,
    pub(super) consequence: Consequence,
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
                let name = first_free(candidates(spec), &taken);
                taken.push(name.clone());
                name
            });
            let over = format!("{} over {}", spec.name, spec.window);
            let numbered = (2..).map(|number| format!("{over}, {number}"));
            let section = first_free(std::iter::once(over.clone()).chain(numbered), &sections);
            sections.push(section.clone());
            Self { sli, name, section, is_informational, consequence: Consequence::None }
        };
        slis.into_iter().map(name_of).collect()
    }

    pub(super) fn status(&self, now: Timestamp) -> Option<Status> {
        self.consequence.status(&*self.sli, now)
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IndicatorSnapshot {
        let mut snapshot = self.consequence.snapshot(&*self.sli, now);
        snapshot.name.clone_from(&self.name);
        snapshot
    }
}

/// Returns the names that an indicator may have, the best first: `response_latency`, `response_latency_24h`,
/// `response_latency_24h_2`.
fn candidates(spec: &SliSpec) -> impl Iterator<Item = String> {
    let (name, window) = (spec.name.clone(), format!("{}_{}", spec.name, spec.window));
    let numbered = window.clone();
    [name, window].into_iter().chain((2..).map(move |number| format!("{numbered}_{number}")))
}

fn first_free(mut candidates: impl Iterator<Item = String>, taken: &[String]) -> String {
    candidates.find(|name| !taken.contains(name)).expect("the candidates are endless")
}
