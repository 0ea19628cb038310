use std::collections::BTreeMap;

use agent_sre::slo::SloSpec;

/// Services of objectives without an event so far, with the names of the objectives.
pub(crate) struct ServicesWithoutEvents(BTreeMap<String, Vec<String>>);

/// Maximum number of agents that a warning names.
const MAX_NAMED: usize = 10;

impl ServicesWithoutEvents {
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
    pub(crate) fn record(&mut self, agent: &str) {
        if !self.0.is_empty() {
            self.0.remove(agent);
        }
    }

    /// Returns a warning for each objective whose service has no event; `agents` are those that have some.
    pub(crate) fn warnings(&self, agents: &[String]) -> Vec<String> {
        let mut found = agents.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match agents.len().saturating_sub(MAX_NAMED) {
            _ if agents.is_empty() => found.push_str("no agent"),
            0 => {}
            more => found.push_str(&format!(" and {more} more")),
        }
        let warning = |service: &str, slo: &str| {
            format!("objective `{slo}`: no event of its `service: {service}`; found events of {found}")
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
        let mut services = ServicesWithoutEvents::of(&[spec]);
        let head = "objective `answers`: no event of its `service: suport`; found events of";
        let agents: Vec<String> = (0..12).map(|number| format!("a{number}")).collect();
        for (agents, expected) in [
            (&agents[..0], "no agent"),
            (&agents[..2], "a0, a1"),
            (&agents, "a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 and 2 more"),
        ] {
            assert_eq!(services.warnings(agents), [format!("{head} {expected}")]);
        }
        services.record("support");
        assert_eq!(services.warnings(&agents).len(), 1);
        services.record("suport");
        assert!(services.warnings(&agents).is_empty());
    }
}
