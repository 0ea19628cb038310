use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Metric, Observe, Persist, Signal, SloSnapshot, Snapshot, StateError, StateReader, StateWriter,
    Timestamp, Verdict,
};

use crate::slo::{end_of_removed, open_incident, signals_of};
use crate::{BuildError, SliRegistry, Slo, SloSpec};

/// The objectives of all agents. A spec without a service is instantiated for each agent seen, a composite one once over all agents.
///
/// ```
/// use sre_core::{AgentEvent, Timestamp};
/// use sre_slo::{SliRegistry, SloEngine, parse};
/// let registry = SliRegistry::default();
/// let specs = parse("name: answers\nindicators:\n  - type: task_success_rate\n", "answers.yaml", &registry).unwrap();
/// let engine = SloEngine::new(specs, registry).unwrap();
/// let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":true}"#;
/// engine.record(&AgentEvent::from_json(line).unwrap());
/// assert_eq!(engine.snapshots(Timestamp::from_secs(1_790_000_000))[0].agent, "support");
/// ```
pub struct SloEngine {
    specs: Vec<SloSpec>,
    registry: SliRegistry,
    max_agents: usize,
    listener: Option<VerdictListener>,
    agents: RwLock<Agents>,
    /// The composite objectives over all agents.
    composites: Objectives,
    /// The incidents of objectives that exist no more, which the next evaluation ends.
    orphaned: Mutex<Vec<Signal>>,
}

type Objectives = Arc<[Slo]>;

/// Called with every event that is bad or slow by an objective.
pub type VerdictListener = Arc<dyn Fn(&AgentEvent, &Slo, Verdict) + Send + Sync>;

/// All objectives of an engine at one moment, by agent.
pub struct ObjectiveSet(Vec<Objectives>);

impl ObjectiveSet {
    /// Returns an iterator over the objectives.
    pub fn iter(&self) -> impl Iterator<Item = &Slo> {
        self.0.iter().flat_map(|objectives| objectives.iter())
    }
}

#[derive(Default)]
struct Agents {
    by_name: FxHashMap<String, Objectives>,
    /// Objectives shared by the agents beyond the limit.
    overflow: Option<Objectives>,
}

/// The number of objectives whose snapshots are computed at a time.
const BATCH: usize = 128;

/// The name under which agents beyond the limit are counted.
const OVERFLOW: &str = "__overflow__";

/// An error from creating an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// An objective cannot be created.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Two objectives have the same name.
    #[error("`{0}`: found two objectives with this name, expected one")]
    Duplicate(String),
}

impl SloEngine {
    /// Creates an engine in which at most 1,000 agents have their own objectives.
    ///
    /// # Errors
    ///
    /// Returns an error if a spec is invalid or two specs have the same name.
    pub fn new(specs: Vec<SloSpec>, registry: SliRegistry) -> Result<Self, EngineError> {
        let mut names = BTreeMap::new();
        for spec in &specs {
            if names.insert(spec.name.as_str(), ()).is_some() {
                return Err(EngineError::Duplicate(spec.name.clone()));
            }
        }
        for spec in &specs {
            Slo::from_specs(spec, &specs, "", &registry)?;
        }
        let over_all = specs.iter().filter(|spec| is_over_all(spec));
        let composites = over_all.map(|spec| Slo::from_specs(spec, &specs, "", &registry)).collect::<Result<_, _>>()?;
        let engine = Self {
            specs,
            registry,
            max_agents: 1_000,
            listener: None,
            agents: RwLock::default(),
            composites,
            orphaned: Mutex::default(),
        };
        for spec in &engine.specs {
            if let Some(service) = spec.service() {
                engine.objectives_of(service);
            }
        }
        Ok(engine)
    }

    /// Sets the maximum number of agents with their own objectives.
    #[must_use]
    pub fn with_max_agents(mut self, max_agents: usize) -> Self {
        self.max_agents = max_agents;
        self
    }

    /// Sets a function that is called, while an event is recorded, for each objective by which the event is bad or slow: twice
    /// if it is both. It must be quick.
    #[must_use]
    pub fn with_listener(mut self, listener: VerdictListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Records an event in the objectives of its agent.
    pub fn record(&self, event: &AgentEvent) {
        // Indicators may be user code, so they run without the lock.
        let known = self.agents.read().unwrap_or_else(PoisonError::into_inner).by_name.get(&event.agent).cloned();
        let objectives = known.unwrap_or_else(|| self.objectives_of(&event.agent));
        for slo in objectives.iter().chain(&*self.composites) {
            let good = slo.count(event);
            if let Some(listener) = &self.listener {
                if good == Some(false) {
                    listener(event, slo, Verdict::Bad);
                }
                if slo.is_slow(event) {
                    listener(event, slo, Verdict::Slow);
                }
            }
        }
    }

    /// Returns every objective at `now`, sorted by name and agent. A spec without a service yields nothing until an agent is
    /// seen.
    pub fn snapshots(&self, now: Timestamp) -> Vec<SloSnapshot> {
        let mut snapshots: Vec<_> = self.objectives().iter().map(|slo| slo.snapshot_at(now)).collect();
        snapshots.sort_by(|a, b| (&a.name, &a.agent).cmp(&(&b.name, &b.agent)));
        snapshots
    }

    /// Calls `read` with the objective of that name and agent, if there is one.
    pub fn with_objective<R>(&self, name: &str, agent: &str, read: impl FnOnce(&Slo) -> R) -> Option<R> {
        if let Some(composite) = self.composites.iter().find(|slo| slo.agent() == agent && slo.name() == name) {
            return Some(read(composite));
        }
        let of_agent = {
            let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
            let known = agents.by_name.get(agent);
            known.or(agents.overflow.as_ref().filter(|_| agent == OVERFLOW)).cloned()
        };
        of_agent?.iter().find(|slo| slo.name() == name).map(read)
    }

    fn each(&self, mut call: impl FnMut(&Slo)) {
        self.objectives().iter().for_each(&mut call);
    }

    /// Returns every objective, to read some of them without a snapshot of all.
    pub fn objectives(&self) -> ObjectiveSet {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        // The order of the map depends on the order in which agents were first seen, which a restart does not keep.
        let mut by_name: Vec<(&String, &Objectives)> = agents.by_name.iter().collect();
        by_name.sort_unstable_by_key(|(agent, _)| *agent);
        let of_agents = by_name.into_iter().map(|(_, objectives)| objectives);
        ObjectiveSet(of_agents.chain(&agents.overflow).chain([&self.composites]).cloned().collect())
    }

    #[cold]
    fn objectives_of(&self, agent: &str) -> Objectives {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = agents.by_name.get(agent) {
            return known.clone();
        }
        if agents.by_name.len() >= self.max_agents {
            drop(agents);
            return self.overflow();
        }
        let objectives = self.make(agent);
        agents.by_name.insert(agent.to_owned(), objectives.clone());
        objectives
    }

    fn overflow(&self) -> Objectives {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.overflow.get_or_insert_with(|| self.make(OVERFLOW)).clone()
    }

    fn restore_objectives(&self, mut state: StateReader<'_>) -> Result<(), StateError> {
        while !state.is_empty() {
            let (name, agent): (String, String) = state.take()?;
            let (_, mut objective) = state.section()?;
            let objectives = match agent.as_str() {
                "" => self.composites.clone(),
                OVERFLOW => self.overflow(),
                agent => self.objectives_of(agent),
            };
            match objectives.iter().find(|slo| slo.name() == name) {
                Some(slo) => slo.restore(&mut objective)?,
                None => lock(&self.orphaned).extend(open_incident(&mut objective)?),
            }
        }
        Ok(())
    }

    fn make(&self, agent: &str) -> Objectives {
        let own = self.specs.iter().filter(|spec| match spec.service() {
            Some(service) => service == agent,
            None => !is_over_all(spec),
        });
        // `new` has built every spec once, and building does not depend on the agent.
        own.filter_map(|spec| Slo::from_specs(spec, &self.specs, agent, &self.registry).ok()).collect()
    }
}

/// Returns true for a composite objective of all agents.
fn is_over_all(spec: &SloSpec) -> bool {
    spec.composite.is_some() && spec.service().is_none()
}

/// The names of the saved sections.
const OBJECTIVES: &str = "objectives";
const ORPHANED: &str = "orphaned";

impl Observe for SloEngine {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        self.record(event);
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        let orphaned = std::mem::take(&mut *lock(&self.orphaned));
        orphaned.into_iter().for_each(|begun| signals(end_of_removed(begun, now)));
        self.each(|slo| {
            slo.evaluate_at(now, signals);
        });
    }

    fn reassert(&self, signals: &mut dyn FnMut(Signal)) {
        self.each(|slo| slo.reassert(signals));
    }
}

impl Collect for SloEngine {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        Self::snapshots(self, now).into_iter().map(|snapshot| Snapshot::Slo(Box::new(snapshot))).collect()
    }

    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let objectives = self.objectives();
        let all: Vec<&Slo> = objectives.iter().collect();
        if all.len() <= BATCH || emit_in_parallel(&all, now, emit).is_err() {
            all.iter().for_each(|slo| slo.metrics(now, emit));
        }
    }
}

/// Emits metrics while another thread computes the snapshots of the next objectives, which takes as long. Fails, before anything is
/// emitted, if there can be no other thread.
fn emit_in_parallel(all: &[&Slo], now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) -> std::io::Result<()> {
    std::thread::scope(|scope| {
        let (sender, snapshots) = sync_channel(2);
        let compute = move || {
            let mut batches = all.chunks(BATCH).map(|batch| batch.iter().map(|slo| slo.snapshot_at(now)).collect());
            // Stops if the receiver has panicked.
            batches.all(|batch: Vec<SloSnapshot>| sender.send(batch).is_ok())
        };
        std::thread::Builder::new().name("sre-snapshots".to_owned()).spawn_scoped(scope, compute)?;
        for (slo, snapshot) in all.iter().zip(snapshots.into_iter().flatten()) {
            slo.emit_metrics(&snapshot, now, emit);
        }
        Ok(())
    })
}

impl Persist for SloEngine {
    fn name(&self) -> Cow<'_, str> {
        "slos".into()
    }

    fn save(&self, state: &mut StateWriter) {
        state.section(OBJECTIVES, |state| {
            self.each(|slo| {
                state.put(&(slo.name(), slo.agent()));
                state.section("objective", |state| slo.save(state));
            });
        });
        let orphaned = serde_json::to_string(&*lock(&self.orphaned)).unwrap_or_default();
        state.section(ORPHANED, |state| state.put(&orphaned));
    }

    /// Restores the objectives that still exist, matched by name and agent. The next evaluation ends the incidents of the others.
    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        for section in state.sections() {
            match section? {
                (OBJECTIVES, state) => self.restore_objectives(state)?,
                (ORPHANED, mut state) => {
                    let orphaned: Vec<Signal> = signals_of(&state.take::<String>()?)?;
                    lock(&self.orphaned).extend(orphaned);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectiveSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for SloEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SloEngine").field("specs", &self.specs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sre_core::event::TaskFinished;
    use sre_core::{Phase, SignalKind, Status};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn engine(yaml: &str) -> SloEngine {
        let registry = SliRegistry::default();
        SloEngine::new(crate::parse(yaml, "test.yaml", &registry).unwrap(), registry).unwrap()
    }

    fn finish(engine: &SloEngine, agent: &str) {
        engine.record(&AgentEvent::new(NOW, agent, TaskFinished::new(true)));
    }

    #[test]
    fn a_spec_without_service_has_an_instance_for_each_agent() {
        let engine = engine("name: every\ntarget: 0.9\n---\nname: one\nservice: a\ntarget: 0.9\n");
        for agent in ["a", "b", "b"] {
            finish(&engine, agent);
        }
        let seen: Vec<_> = engine.snapshots(NOW).into_iter().map(|slo| (slo.name, slo.agent, slo.good)).collect();
        assert_eq!(
            seen,
            [("every".into(), "a".into(), 1), ("every".into(), "b".into(), 2), ("one".into(), "a".into(), 1)]
        );
    }

    #[test]
    fn a_service_without_events_is_reported() {
        let snapshots = engine("name: one\nservice: a\ntarget: 0.9\n").snapshots(NOW);
        assert_eq!((snapshots.len(), snapshots[0].status), (1, sre_core::Status::Unknown));
    }

    #[test]
    fn metrics_are_those_of_each_objective_in_turn() {
        let engine = engine("name: every\ntarget: 0.9\n---\nname: other\ntarget: 0.99\n");
        (0..2 * BATCH + 3).for_each(|agent| finish(&engine, &format!("agent-{agent}")));
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        engine.metrics(NOW, &mut |metric| found.push(format!("{metric:?}")));
        engine.each(|slo| slo.metrics(NOW, &mut |metric| expected.push(format!("{metric:?}"))));
        assert!(found == expected && found.len() > 10 * BATCH);
    }

    #[test]
    fn the_listener_hears_of_bad_and_slow_events_of_each_objective() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        let yaml = "name: fast\ntarget: 0.9\nindicators: [{type: response_latency, target_ms: 500}]\n---\n\
                    name: cheap\ntarget: 0.9\ngood_when: {max_cost_usd: 0.5}\n";
        let engine = engine(yaml).with_listener(Arc::new(move |event: &AgentEvent, slo: &Slo, verdict: Verdict| {
            lock(&into).push((slo.name().to_owned(), event.task_key().into_owned(), verdict.as_str()));
        }));
        for line in [
            r#"{"event":"task_finished","task":"good","success":true,"duration_ms":500,"cost_usd":"0.5"}"#,
            r#"{"event":"llm_call","task":"dear","cost_usd":"0.6","duration_ms":900}"#,
            r#"{"event":"task_finished","task":"dear","success":true,"duration_ms":501}"#,
            r#"{"event":"task_finished","task":"failed","success":false,"cost_usd":"0.1"}"#,
        ] {
            engine.record(
                &AgentEvent::from_json(line.replacen('{', r#"{"time":1790000000,"agent":"a","#, 1).as_bytes()).unwrap(),
            );
        }
        let own = |slo: &str, task: &str, verdict| (slo.to_owned(), task.to_owned(), verdict);
        let expected = [own("fast", "dear", "slow"), own("cheap", "dear", "bad"), own("fast", "failed", "bad")];
        assert_eq!(*lock(&heard), expected);
    }

    #[test]
    fn a_removed_objective_ends_its_incident() {
        let [removed, kept] = ["name: removed\nservice: a\ntarget: 0.9\n", "name: kept\nservice: a\ntarget: 0.9\n"];
        let both = engine(&format!("{removed}---\n{kept}"));
        (0..30).for_each(|_| both.record(&AgentEvent::new(NOW, "a", TaskFinished::new(false))));
        let signals = |engine: &SloEngine, now| {
            let mut signals = Vec::new();
            Observe::evaluate(engine, now, &mut |signal| signals.push(signal));
            signals
        };
        assert_eq!(signals(&both, NOW).len(), 2);
        let restored = |from: &SloEngine, yaml| {
            let (to, mut state) = (engine(yaml), StateWriter::default());
            from.save(&mut state);
            to.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
            to
        };
        // Also if the state is saved again before an evaluation.
        let one = restored(&restored(&both, kept), kept);
        let later = NOW.saturating_add(std::time::Duration::from_secs(1));
        let ended = signals(&one, later);
        let [end] = &ended[..] else { panic!("found {ended:?}, expected the end of `removed` alone") };
        assert_eq!((&*end.key, end.phase, &*end.title), ("slo/removed/a", Phase::Resolved, "removed of a: removed"));
        let SignalKind::SloStatusChanged(change) = &end.kind else { panic!("found {:?}", end.kind) };
        assert_eq!((change.from, change.to, end.time), (Status::Exhausted, Status::Unknown, later));
        assert_eq!(signals(&one, later), []);
    }

    #[test]
    fn agents_beyond_the_limit_are_counted_together() {
        let engine = engine("name: every\ntarget: 0.9\n").with_max_agents(2);
        for agent in ["a", "b", "c", "d"] {
            finish(&engine, agent);
        }
        let seen: Vec<_> = engine.snapshots(NOW).into_iter().map(|slo| (slo.agent, slo.good)).collect();
        assert_eq!(seen, [(OVERFLOW.into(), 2), ("a".into(), 1), ("b".into(), 1)]);
    }

    #[test]
    fn two_objectives_with_the_same_name_are_an_error() {
        let registry = SliRegistry::default();
        let specs = crate::parse("name: x\ntarget: 0.9\n---\nname: y\ntarget: 0.9\n", "f", &registry).unwrap();
        let twice = vec![specs[0].clone(), specs[0].clone()];
        assert!(SloEngine::new(twice, registry).unwrap_err().to_string().contains("`x`"));
    }
}
