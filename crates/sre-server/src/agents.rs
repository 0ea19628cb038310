use std::collections::BTreeMap;
use std::sync::Mutex;

use agent_sre::{
    AgentEvent, Event, Observer, Signal, Snapshot, StateError, StateReader, StateWriter, Tally, Timestamp, Totals, Usd,
    lock,
};
use serde::{Deserialize, Serialize};

/// What each agent and each model did, and everybody together, since the service was first started.
#[derive(Debug)]
pub(crate) struct Agents {
    most: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    all: Tally,
    agents: BTreeMap<String, AgentTally>,
    models: BTreeMap<String, ModelTally>,
}

#[derive(Debug, Default)]
struct AgentTally {
    tally: Tally,
    last: Timestamp,
}

/// What a model was used for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ModelTally {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cost_usd: Usd,
}

/// An agent, as the API has it.
#[derive(Debug, Serialize)]
pub(crate) struct AgentReport {
    pub(crate) agent: String,
    /// When it last did something, by its own clock.
    pub(crate) last_event: Timestamp,
    #[serde(flatten)]
    pub(crate) totals: Totals,
}

/// Those beyond the limit are counted together under this name.
const OVERFLOW: &str = "__overflow__";
/// A model without a name.
const NAMELESS: &str = "unknown";

impl Agents {
    /// Tells so many agents, and as many models, apart.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, seen: Mutex::default() }
    }

    pub(crate) fn totals(&self) -> Totals {
        lock(&self.seen).all.totals().clone()
    }

    /// Every agent, by name.
    pub(crate) fn report(&self) -> Vec<AgentReport> {
        let seen = lock(&self.seen);
        let report = |(agent, of): (&String, &AgentTally)| AgentReport {
            agent: agent.clone(),
            last_event: of.last,
            totals: of.tally.totals().clone(),
        };
        seen.agents.iter().map(report).collect()
    }

    pub(crate) fn models(&self) -> BTreeMap<String, ModelTally> {
        lock(&self.seen).models.clone()
    }
}

impl Seen {
    fn agent(&mut self, name: &str, most: usize) -> &mut AgentTally {
        entry(&mut self.agents, name, most)
    }
}

/// What is kept under a name, or, where there are too many names, under the one for the others.
fn entry<'a, T: Default>(known: &'a mut BTreeMap<String, T>, name: &str, most: usize) -> &'a mut T {
    let name = if known.len() < most || known.contains_key(name) { name } else { OVERFLOW };
    // Without a copy of the name where it is known, which it nearly always is.
    if !known.contains_key(name) {
        known.insert(name.to_owned(), T::default());
    }
    known.get_mut(name).expect("it was there, or has just been put there")
}

impl Observer for Agents {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        let mut seen = lock(&self.seen);
        seen.all.observe(event);
        if let Event::LlmCall(call) = &event.event {
            let tally = entry(&mut seen.models, call.model.as_deref().unwrap_or(NAMELESS), self.most);
            tally.calls += 1;
            tally.errors += u64::from(!call.success);
            tally.input_tokens = tally.input_tokens.saturating_add(call.input_tokens);
            tally.output_tokens = tally.output_tokens.saturating_add(call.output_tokens);
            tally.cost_usd += call.cost_usd.unwrap_or_default();
        }
        let agent = seen.agent(&event.agent, self.most);
        agent.tally.observe(event);
        agent.last = agent.last.max(event.time);
    }

    fn snapshot(&self, _now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Totals(self.totals())]
    }

    fn save(&self, state: &mut StateWriter) {
        let seen = lock(&self.seen);
        seen.all.save(state);
        state.put(&seen.models);
        state.put(&seen.agents.len());
        for (name, agent) in &seen.agents {
            state.put(&(name, agent.last));
            agent.tally.save(state);
        }
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let mut seen = lock(&self.seen);
        seen.all.restore(state)?;
        seen.models = state.take()?;
        for _ in 0..state.take::<usize>()? {
            let (name, last): (String, Timestamp) = state.take()?;
            let mut agent = AgentTally { last, ..AgentTally::default() };
            agent.tally.restore(state)?;
            seen.agents.insert(name, agent);
        }
        Ok(())
    }
}
