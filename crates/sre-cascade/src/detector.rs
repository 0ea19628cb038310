use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustc_hash::FxHashSet;
use sre_core::event::{Handoff, LlmCall, TaskFinished, ToolCall};
use sre_core::{
    AgentEvent, BreakerState, CascadeReport, Clock, Event, Failing, Observer, Signal, SignalHandler, SignalKind,
    Snapshot, Status, SystemClock, Target, TargetKind, Timestamp, lock,
};

use crate::breaker::Settings;
use crate::directory::Directory;
use crate::pulse::{Found, Pulse};
use crate::spans::Spans;
use crate::spread::longest_path;
use crate::{BreakerConfig, CircuitBreaker, ErrorClass, InvalidConfig};

/// Finds failures that cascade: a breaker for each agent, tool and model, who calls whom, and how failures went from one
/// to the other.
///
/// It learns from events (an [`Observer`]): results of tasks, tools and models go to their breakers; hand-offs, calls and
/// parent spans say who calls whom. Or it is told, by breakers that guard real calls and by [`add_call`](Self::add_call).
///
/// ```
/// use sre_cascade::{CascadeDetector, Target};
/// let detector = CascadeDetector::new(["planner", "writer", "critic", "editor"]);
/// for agent in ["planner", "writer", "critic"] {
///     let breaker = detector.get_breaker(agent).unwrap();
///     (0..5).for_each(|_| breaker.record_failure());
/// }
/// assert_eq!(detector.get_affected_agents(), ["critic", "planner", "writer"]);
/// let cascade = detector.check_cascade().unwrap();
/// assert_eq!(cascade.origin, Target::agent("planner"));
/// detector.reset_all();
/// assert!(detector.check_cascade().is_none());
/// ```
pub struct CascadeDetector {
    config: DetectorConfig,
    settings: [Arc<Settings>; 3],
    pulse: Arc<Pulse>,
    directory: RwLock<Directory>,
    spans: Mutex<Spans>,
    ongoing: Mutex<Ongoing>,
}

/// What a detector looks for, and what it does about it.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorConfig {
    /// So many open circuits are a cascade, whoever calls whom: 3.
    pub cascade_threshold: usize,
    /// So many that fail one after the other, each calling the one before it, are a cascade too: 3.
    pub path_threshold: usize,
    /// Somebody fails who has failed this often within `window`, or whose circuit is open: 2. A single failure that passes
    /// up to the user is none.
    pub path_failures: u32,
    /// Failures further apart than this have nothing to do with each other: 5 min.
    pub window: Duration,
    /// The agents' breakers.
    pub agent: BreakerConfig,
    /// The tools' breakers.
    pub tool: BreakerConfig,
    /// The models' breakers.
    pub model: BreakerConfig,
    /// What to do to those who call what has failed, before they fail too: nothing.
    pub precaution: Precaution,
    /// The most agents, tools and models that are watched: 200,000. More are counted, and not watched.
    pub max_targets: usize,
    /// The most pairs of caller and callee that are known: 1,000,000.
    pub max_calls: usize,
}

/// What is done to the callers of what has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precaution {
    /// Nothing.
    #[default]
    None,
    /// Their circuits are opened; they come back as after failures.
    Open,
    /// One call is let through every so often, until the cascade is over.
    Limit(Duration),
}

/// The cascade that was told of, and who was acted on because of it.
#[derive(Default)]
struct Ongoing {
    origin: Option<Target>,
    treated: FxHashSet<u32>,
}

/// The blast radius names so many, the nearest.
const NAMED: usize = 100;

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            cascade_threshold: 3,
            path_threshold: 3,
            path_failures: 2,
            window: Duration::from_secs(300),
            agent: BreakerConfig::default(),
            tool: BreakerConfig::default(),
            model: BreakerConfig::default(),
            precaution: Precaution::None,
            max_targets: 200_000,
            max_calls: 1_000_000,
        }
    }
}

impl DetectorConfig {
    /// That every setting can be; the error names the first that cannot.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let at_least = |field, found: usize, least: usize, expected| {
            if found >= least { Ok(()) } else { Err(InvalidConfig { field, found: found.to_string(), expected }) }
        };
        at_least("cascade_threshold", self.cascade_threshold, 1, "1 or more")?;
        at_least("path_threshold", self.path_threshold, 2, "2 or more")?;
        at_least("path_failures", self.path_failures as usize, 1, "1 or more")?;
        at_least("max_targets", self.max_targets, 1, "1 or more")?;
        if self.window.is_zero() {
            return Err(InvalidConfig { field: "window", found: "0s".into(), expected: "more than nothing" });
        }
        if self.precaution == Precaution::Limit(Duration::ZERO) {
            return Err(InvalidConfig { field: "precaution", found: "0s".into(), expected: "more than nothing" });
        }
        [&self.agent, &self.tool, &self.model].into_iter().try_for_each(BreakerConfig::validate)
    }
}

impl CascadeDetector {
    /// Watches these agents, and whatever else events bring, with the defaults.
    pub fn new<A: Into<String>>(agents: impl IntoIterator<Item = A>) -> Self {
        let detector = Self::build(DetectorConfig::default(), Arc::new(SystemClock));
        detector.add_agents(agents);
        detector
    }

    /// The same with other settings, by another clock; the error names the setting that cannot be.
    pub fn with_config(config: DetectorConfig, clock: Arc<dyn Clock>) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::build(config, clock))
    }

    fn build(config: DetectorConfig, clock: Arc<dyn Clock>) -> Self {
        let pulse = Arc::new(Pulse::new(config.window, config.path_failures));
        let settings = [&config.agent, &config.tool, &config.model]
            .map(|breaker| Arc::new(Settings::new(breaker.clone(), clock.clone(), Some(pulse.clone()))));
        Self {
            directory: RwLock::new(Directory::new(config.max_targets, config.max_calls)),
            config,
            settings,
            pulse,
            spans: Mutex::default(),
            ongoing: Mutex::default(),
        }
    }

    /// Tells `handler` of every change of a breaker at once; else those changes wait for the next event or evaluation.
    /// Only the first handler counts: false for a later one.
    pub fn forward_changes(&self, handler: Arc<dyn SignalHandler>) -> bool {
        self.pulse.set_handler(handler)
    }

    /// Watches these agents too.
    pub fn add_agents<A: Into<String>>(&self, agents: impl IntoIterator<Item = A>) {
        agents.into_iter().for_each(|agent| drop(self.add(Target::agent(agent))));
    }

    /// The breaker of a target, which is watched from now on; `None` where there is no room for it.
    pub fn add(&self, target: impl Into<Target>) -> Option<Arc<CircuitBreaker>> {
        let target = target.into();
        let id = self.id(target.kind, &target.name)?;
        Some(self.read().breaker(id).clone())
    }

    /// The breaker of a target that is watched; a text is an agent's name.
    pub fn get_breaker(&self, target: impl Into<Target>) -> Option<Arc<CircuitBreaker>> {
        let target = target.into();
        let directory = self.read();
        directory.find(target.kind, &target.name).map(|id| directory.breaker(id).clone())
    }

    /// `caller` calls `callee`. Both are watched from now on.
    pub fn add_call(&self, caller: impl Into<Target>, callee: impl Into<Target>) {
        let (caller, callee) = (caller.into(), callee.into());
        let caller = self.id(caller.kind, &caller.name);
        let callee = self.id(callee.kind, &callee.name);
        self.connect(caller, callee);
    }

    /// The cascade that goes on, if one does: enough open circuits, or failures that followed the call graph.
    ///
    /// Takes time in proportion to what fails and whoever calls that, directly or not; none where all is well.
    pub fn check_cascade(&self) -> Option<CascadeReport> {
        self.check_cascade_at(self.clock().now())
    }

    /// The same at another time than now, for replays.
    pub fn check_cascade_at(&self, now: Timestamp) -> Option<CascadeReport> {
        self.detect(now).map(|cascade| cascade.report)
    }

    /// The agents whose circuits are open, in the order of their names.
    pub fn get_affected_agents(&self) -> Vec<String> {
        let open = self.pulse.look(self.clock().now()).open;
        let directory = self.read();
        let targets = open.iter().map(|id| directory.breaker(*id).target());
        let mut agents: Vec<String> =
            targets.filter(|target| target.kind == TargetKind::Agent).map(|target| target.name.clone()).collect();
        agents.sort_unstable();
        agents
    }

    /// Closes every breaker and forgets its failures. What was learnt of the call graph stays.
    pub fn reset_all(&self) {
        // Outside the lock, since breakers tell of it.
        let breakers = self.read().breakers().to_vec();
        breakers.iter().for_each(|breaker| breaker.reset());
        self.ongoing().treated.clear();
    }

    /// Targets and pairs that found no room, and changes that nobody took in time.
    pub fn overflow(&self) -> u64 {
        self.read().overflow + self.pulse.lost()
    }

    fn clock(&self) -> &dyn Clock {
        &*self.settings[0].clock
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn ongoing(&self) -> std::sync::MutexGuard<'_, Ongoing> {
        lock(&self.ongoing)
    }

    fn id(&self, kind: TargetKind, name: &str) -> Option<u32> {
        let known = self.read().find(kind, name);
        known.or_else(|| self.write().add(kind, name, &self.settings[kind as usize]))
    }

    fn connect(&self, caller: Option<u32>, callee: Option<u32>) {
        if let (Some(caller), Some(callee)) = (caller, callee)
            && !self.read().has_call(caller, callee)
        {
            self.write().add_call(caller, callee);
        }
    }

    fn detect(&self, now: Timestamp) -> Option<Cascade> {
        let Found { mut failing, mut open } = self.pulse.look(now);
        if self.config.precaution == Precaution::Open {
            // What was opened as a precaution proves nothing.
            let ongoing = self.ongoing();
            open.retain(|id| !ongoing.treated.contains(id));
            failing.retain(|id, _| !ongoing.treated.contains(id));
        }
        if open.len() < self.config.cascade_threshold && failing.len() < self.config.path_threshold {
            return None;
        }
        let directory = self.read();
        let mut path = longest_path(&failing, |id| directory.callers(id));
        if open.len() < self.config.cascade_threshold && path.len() < self.config.path_threshold {
            return None;
        }
        if path.len() < 2
            && let Some(first) = open.first()
        {
            path = vec![*first];
        }
        let target = |id: &u32| directory.breaker(*id).target().clone();
        let path_targets: Vec<Failing> = path
            .iter()
            .map(|id| Failing { target: target(id), since: failing.get(id).copied().unwrap_or(now) })
            .collect();
        let reached: Vec<u32> = path.iter().chain(&open).copied().collect();
        let exposed = directory.all_callers(&reached);
        let callers = match self.config.precaution {
            Precaution::None => FxHashSet::default(),
            // Whatever is open is among the failing.
            _ => {
                let callers = reached.iter().flat_map(|id| directory.callers(*id)).copied();
                callers.filter(|id| !failing.contains_key(id)).collect()
            }
        };
        let report = CascadeReport {
            origin: path_targets.first()?.target.clone(),
            path: path_targets,
            open: open.iter().map(target).collect(),
            exposed: exposed.len(),
            blast_radius: exposed.iter().take(NAMED).map(target).collect(),
        };
        Some(Cascade { report, callers })
    }

    /// Says what began and what is over, and acts on it.
    fn conclude(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        let cascade = self.detect(now);
        let mut told = self.pulse.take_pending();
        let (treat, release) = {
            let mut ongoing = self.ongoing();
            let origin = cascade.as_ref().map(|cascade| &cascade.report.origin);
            if ongoing.origin.as_ref() != origin {
                let mut tell = |origin: &Target, kind| {
                    told.push(Signal { time: now, agent: origin.agent_name().to_owned(), kind });
                };
                if let Some(origin) = ongoing.origin.take() {
                    tell(&origin.clone(), SignalKind::CascadeOver { origin });
                }
                if let Some(Cascade { report, .. }) = &cascade {
                    ongoing.origin = Some(report.origin.clone());
                    tell(&report.origin, SignalKind::Cascade(report.clone()));
                }
            }
            self.precautions(&mut ongoing, cascade.map(|cascade| cascade.callers).unwrap_or_default())
        };
        told.into_iter().for_each(&mut *signals);
        let breakers = |ids: Vec<u32>| {
            let directory = self.read();
            ids.iter().map(|id| directory.breaker(*id).clone()).collect::<Vec<_>>()
        };
        for breaker in breakers(treat) {
            match self.config.precaution {
                Precaution::None => {}
                Precaution::Open => breaker.trip("what it calls has failed"),
                Precaution::Limit(every) => breaker.limit(Some(every)),
            }
        }
        breakers(release).iter().for_each(|breaker| breaker.limit(None));
        self.pulse.take_pending().into_iter().for_each(signals);
    }

    /// Whom to act on, and whom to let go.
    fn precautions(&self, ongoing: &mut Ongoing, callers: FxHashSet<u32>) -> (Vec<u32>, Vec<u32>) {
        match self.config.precaution {
            Precaution::None => (Vec::new(), Vec::new()),
            Precaution::Open => {
                let directory = self.read();
                ongoing.treated.retain(|id| directory.breaker(*id).state() != BreakerState::Closed);
                let treat: Vec<u32> = callers.into_iter().filter(|id| ongoing.treated.insert(*id)).collect();
                (treat, Vec::new())
            }
            Precaution::Limit(_) => {
                let release = ongoing.treated.difference(&callers).copied().collect();
                let treat = callers.difference(&ongoing.treated).copied().collect();
                ongoing.treated = callers;
                (treat, release)
            }
        }
    }

    /// Takes the result of a call in, as of `event`.
    fn record(&self, callee: Option<u32>, event: &AgentEvent, success: bool, error: Option<&str>) {
        let Some(callee) = callee else { return };
        let breaker = self.read().breaker(callee).clone();
        let class = (!success).then(|| ErrorClass::of_message(error.unwrap_or_default()));
        let took = event.event.duration_ms().and_then(|millis| Duration::try_from_secs_f64(millis / 1e3).ok());
        breaker.record_observed(class, took, event.time);
    }

    fn learn(&self, event: &AgentEvent) {
        let agent = || self.id(TargetKind::Agent, &event.agent);
        match &event.event {
            Event::TaskFinished(TaskFinished { success, error, .. }) => {
                self.record(agent(), event, *success, error.as_deref());
            }
            Event::ToolCall(ToolCall { tool, success, error, .. }) => {
                let tool = self.id(TargetKind::Tool, tool);
                self.connect(agent(), tool);
                self.record(tool, event, *success, error.as_deref());
            }
            Event::LlmCall(LlmCall { model: Some(model), success, error, .. }) => {
                let model = self.id(TargetKind::Model, model);
                self.connect(agent(), model);
                self.record(model, event, *success, error.as_deref());
            }
            Event::Handoff(Handoff { from, to, .. }) => {
                self.connect(self.id(TargetKind::Agent, from), self.id(TargetKind::Agent, to));
            }
            _ => {}
        }
        if (event.span_id.is_some() || event.parent_span_id.is_some())
            && let Some(agent) = agent()
        {
            let mut spans = lock(&self.spans);
            spans.learn(event, agent, |caller, callee| self.connect(Some(caller), Some(callee)));
        }
    }
}

struct Cascade {
    report: CascadeReport,
    /// Who calls what has failed and has not failed yet, where anything is done about them.
    callers: FxHashSet<u32>,
}

impl Observer for CascadeDetector {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        self.learn(event);
        if self.pulse.take_news() {
            self.conclude(event.time, signals);
        }
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        let opened: Vec<_> = {
            let directory = self.read();
            self.pulse.opened().into_iter().map(|id| directory.breaker(id).clone()).collect()
        };
        opened.iter().for_each(|breaker| breaker.ripen_at(now));
        self.conclude(now, signals);
    }

    /// The breakers of whatever has ever failed, and the cascade that goes on.
    fn snapshot(&self, now: Timestamp) -> Vec<Snapshot> {
        let mut failed: Vec<_> = {
            let directory = self.read();
            self.pulse.ever_failed().into_iter().map(|id| directory.breaker(id).clone()).collect()
        };
        failed.sort_by(|one, other| one.target().cmp(other.target()));
        let breakers = failed.iter().map(|breaker| Snapshot::Breaker(breaker.snapshot_at(now)));
        breakers.chain(self.check_cascade_at(now).map(Snapshot::Cascade)).collect()
    }
}

/// Opens the circuit of an agent whose budget is spent, where the objective asks for that.
impl SignalHandler for CascadeDetector {
    fn handle(&self, signal: &Signal) {
        if let SignalKind::SloStatusChanged { slo, to: Status::Exhausted, exhaustion_action, .. } = &signal.kind
            && exhaustion_action == "circuit_break"
            && let Some(breaker) = self.add(&*signal.agent)
        {
            breaker.trip(&format!("the error budget of {slo} is spent"));
        }
    }
}

impl fmt::Debug for CascadeDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CascadeDetector")
            .field("config", &self.config)
            .field("targets", &self.read().breakers().len())
            .finish_non_exhaustive()
    }
}
