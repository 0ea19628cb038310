use super::{Module, agents, alerts, breakers, costs, exporters, slos, traces};

/// All engines. To add an engine, add a row.
pub(super) static MODULES: &[Module] =
    &[slos::MODULE, agents::MODULE, costs::MODULE, breakers::MODULE, alerts::MODULE, exporters::MODULE, traces::MODULE];
