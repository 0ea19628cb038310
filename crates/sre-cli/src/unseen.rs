use std::collections::BTreeMap;

use agent_sre::slo::SloSpec;

/// Services of objectives from which no event has come, with the names of the objectives.
pub(crate) struct UnseenServices(BTreeMap<String, Vec<String>>);

/// Maximum number of agents that a warning names.
const MAX_NAMED: usize = 10;

impl UnseenServices {
    pub(crate) fn of(specs: &[SloSpec]) -> Self {
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for spec in specs {
            if let Some(service) = spec.service() {
                services.entry(service.to_owned()).or_default().push(spec.name.clone());
            }
        }
        Self(services)
    }

    /// Records an event of an agent.
    pub(crate) fn see(&mut self, agent: &str) {
        if !self.0.is_empty() {
            self.0.remove(agent);
        }
    }

    /// Returns a warning for each objective whose service has not been seen; `agents` are those that have.
    pub(crate) fn warnings(&self, agents: &[String]) -> Vec<String> {
        let mut seen = agents.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match agents.len().saturating_sub(MAX_NAMED) {
            _ if agents.is_empty() => seen.push_str("no agent"),
            0 => {}
            more => seen.push_str(&format!(" and {more} more")),
        }
        let warning = |service: &str, slo: &str| {
            format!("objective `{slo}`: found no event of its `service: {service}`, found events of {seen}")
        };
        self.0.iter().flat_map(|(service, slos)| slos.iter().map(|slo| warning(service, slo))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_a_bounded_number_of_agents() {
        let spec = SloSpec { name: "answers".into(), service: Some("suport".into()), ..SloSpec::default() };
        let mut unseen = UnseenServices::of(&[spec]);
        let head = "objective `answers`: found no event of its `service: suport`, found events of";
        let agents: Vec<String> = (0..12).map(|number| format!("a{number}")).collect();
        for (agents, expected) in [
            (&agents[..0], "no agent"),
            (&agents[..2], "a0, a1"),
            (&agents, "a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 and 2 more"),
        ] {
            assert_eq!(unseen.warnings(agents), [format!("{head} {expected}")]);
        }
        unseen.see("support");
        assert_eq!(unseen.warnings(&agents).len(), 1);
        unseen.see("suport");
        assert!(unseen.warnings(&agents).is_empty());
    }
}
