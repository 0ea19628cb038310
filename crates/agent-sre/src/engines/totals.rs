use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sre_core::event::{LlmCall, StringLimiter};
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Event, Observe, Persist, Signal, Snapshot, StateError, StateReader, StateWriter, Tally,
    Timestamp, Totals, Usd,
};

use super::Engine;

pub(super) const ENGINE: Engine = Engine {
    files: &[],
    set_defaults: |_| {},
    install: |builder, settings| Ok(builder.engine(Arc::new(AgentTotals::new(settings.max_agents)))),
};

/// Totals over all events: overall, by agent and by model. An engine, to be added to a runtime.
#[derive(Debug)]
pub struct AgentTotals {
    max_agents: usize,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    all: Tally,
    agents: BTreeMap<String, AgentTally>,
    models: BTreeMap<String, ModelTotals>,
}

#[derive(Debug, Default)]
struct AgentTally {
    tally: Tally,
    last_event: Timestamp,
}

/// Sums over the calls of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ModelTotals {
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Cost of the calls.
    pub cost_usd: Usd,
}

/// Sums over the events of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct AgentReport {
    /// The agent.
    pub agent: String,
    /// Time of its latest event.
    pub last_event: Timestamp,
    /// The sums.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Agents and models beyond the limit are counted together under this name.
const OVERFLOW: &str = "__overflow__";
/// A model without a name.
const UNKNOWN_MODEL: &str = "unknown";

impl AgentTotals {
    /// Creates an engine that keeps statistics for up to `max_agents` agents and as many models.
    pub fn new(max_agents: usize) -> Self {
        Self { max_agents, sums: Mutex::default() }
    }

    /// Returns the sums over all events.
    pub fn totals(&self) -> Totals {
        lock(&self.sums).all.totals().clone()
    }

    /// Returns the sums of every agent, by name.
    pub fn agents(&self) -> Vec<AgentReport> {
        let sums = lock(&self.sums);
        let report = |(agent, of): (&String, &AgentTally)| AgentReport {
            agent: agent.clone(),
            last_event: of.last_event,
            totals: of.tally.totals().clone(),
        };
        sums.agents.iter().map(report).collect()
    }

    /// Returns the sums of every model, by name.
    pub fn models(&self) -> BTreeMap<String, ModelTotals> {
        lock(&self.sums).models.clone()
    }
}

/// Returns the entry of a name or, if there are too many names, the entry of all others.
fn entry<'a, T: Default>(known: &'a mut BTreeMap<String, T>, name: &str, most: usize) -> &'a mut T {
    let name = if known.len() < most || known.contains_key(name) { name } else { OVERFLOW };
    // Copies the name only if it is new, which is rare.
    if !known.contains_key(name) {
        known.insert(name.to_owned(), T::default());
    }
    known.get_mut(name).expect("inserted above if missing")
}

/// Shortens a name that an earlier version has saved, which had no limit.
fn limited(mut name: String) -> String {
    StringLimiter::default().name(&mut name);
    name
}

impl Observe for AgentTotals {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        let mut sums = lock(&self.sums);
        sums.all.observe(event);
        if let Event::LlmCall(LlmCall { model, success, input_tokens, output_tokens, cost_usd, .. }) = &event.event {
            let model = entry(&mut sums.models, model.as_deref().unwrap_or(UNKNOWN_MODEL), self.max_agents);
            model.calls += 1;
            model.errors += u64::from(!success);
            model.input_tokens = model.input_tokens.saturating_add(*input_tokens);
            model.output_tokens = model.output_tokens.saturating_add(*output_tokens);
            model.cost_usd += cost_usd.unwrap_or_default();
        }
        let agent = entry(&mut sums.agents, &event.agent, self.max_agents);
        agent.tally.observe(event);
        agent.last_event = agent.last_event.max(event.time);
    }
}

impl Collect for AgentTotals {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Totals(self.totals())]
    }
}

impl Persist for AgentTotals {
    fn name(&self) -> Cow<'_, str> {
        "agents".into()
    }

    fn save(&self, state: &mut StateWriter) {
        let sums = lock(&self.sums);
        state.section("all", |state| sums.all.save(state));
        state.section("models", |state| state.put(&sums.models));
        state.section("agents", |state| {
            for (name, agent) in &sums.agents {
                state.put(&(name, agent.last_event));
                agent.tally.save(state);
            }
        });
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let mut sums = lock(&self.sums);
        for section in state.sections() {
            match section? {
                ("all", mut state) => sums.all.restore(&mut state)?,
                ("models", mut state) => {
                    let models: BTreeMap<String, ModelTotals> = state.take()?;
                    sums.models = models.into_iter().map(|(name, model)| (limited(name), model)).collect();
                }
                ("agents", mut state) => {
                    while !state.is_empty() {
                        let (name, last_event): (String, Timestamp) = state.take()?;
                        let mut agent = AgentTally { last_event, ..AgentTally::default() };
                        agent.tally.restore(&mut state)?;
                        sums.agents.insert(limited(name), agent);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
