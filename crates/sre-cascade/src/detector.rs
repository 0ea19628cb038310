use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rustc_hash::FxHashSet;
use sre_core::event::{Handoff, LlmCall, TaskFinished, ToolCall};
use sre_core::private::lock;
use sre_core::{
    AgentEvent, BreakerState, CascadeReport, Clock, Collect, Event, ExhaustionAction, FailingTarget, Observe, Signal,
    SignalHandler, SignalKind, SignalSink, Snapshot, Status, SystemClock, Target, TargetKind, Timestamp,
};

use crate::call_graph::CallGraph;
use crate::failure_tracker::{FailingTargets, FailureTracker};
use crate::mitigation::Mitigated;
use crate::propagation::longest_path;
use crate::settings::Settings;
use crate::spans::Spans;
use crate::{CircuitBreaker, DetectorConfig, ErrorClass, InvalidConfig, Mitigation};

/// Detects cascading failures: keeps a circuit breaker for each agent, tool and model, learns who calls whom, and follows
/// failures from callee to caller.
///
/// As an engine ([`Observe`]) it learns from events: results of tasks, tool calls and model calls go to the breakers of their targets,
/// and handoffs, calls and parent spans add edges to the call graph. Without events, use its breakers to protect calls and
/// [`add_call`](Self::add_call) for the call graph.
///
/// ```
/// use sre_cascade::{CascadeDetector, Target};
/// let detector = CascadeDetector::new(["planner", "writer", "critic", "editor"]);
/// for agent in ["planner", "writer", "critic"] {
///     let breaker = detector.breaker(agent).unwrap();
///     (0..5).for_each(|_| breaker.record_failure());
/// }
/// assert_eq!(detector.affected_agents(), ["critic", "planner", "writer"]);
/// let cascade = detector.check_cascade().unwrap();
/// assert_eq!(cascade.origin, Target::agent("planner"));
/// detector.reset_all();
/// assert!(detector.check_cascade().is_none());
/// ```
pub struct CascadeDetector {
    pub(crate) config: DetectorConfig,
    pub(crate) clock: Arc<dyn Clock>,
    agent_settings: Arc<Settings>,
    tool_settings: Arc<Settings>,
    model_settings: Arc<Settings>,
    pub(crate) tracker: Arc<FailureTracker>,
    graph: RwLock<CallGraph>,
    pub(crate) spans: Mutex<Spans>,
    reported: Mutex<Reported>,
    /// The objectives whose exhausted error budget has opened a circuit: since when, by incident key.
    pub(crate) exhausted: Mutex<BTreeMap<String, Timestamp>>,
}

/// The cascade last reported by a signal, and the targets mitigated because of it.
#[derive(Default)]
pub(crate) struct Reported {
    pub(crate) origin: Option<Target>,
    /// The signal that it began or, where there is no origin, that the last one is over.
    pub(crate) signal: Option<Signal>,
    pub(crate) mitigated: Mitigated,
}

struct Cascade {
    report: CascadeReport,
    /// Direct callers of the failing targets that are not failing themselves. Empty without a mitigation.
    healthy_callers: FxHashSet<u32>,
}

/// Maximum number of targets listed in a report's blast radius.
const MAX_BLAST_RADIUS: usize = 100;

impl CascadeDetector {
    /// Creates a detector with the default configuration that monitors these agents and every target of the events it observes.
    pub fn new<A: Into<String>>(agents: impl IntoIterator<Item = A>) -> Self {
        let detector = Self::build(DetectorConfig::default(), Arc::new(SystemClock));
        detector.add_agents(agents);
        detector
    }

    /// Creates a detector with the given configuration and clock.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid field of `config`.
    pub fn with_config(config: DetectorConfig, clock: Arc<dyn Clock>) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::build(config, clock))
    }

    fn build(config: DetectorConfig, clock: Arc<dyn Clock>) -> Self {
        let tracker = Arc::new(FailureTracker::new(config.window, config.path_failures));
        let [agent_settings, tool_settings, model_settings] = [&config.agent, &config.tool, &config.model]
            .map(|breaker| Arc::new(Settings::new(breaker.clone(), clock.clone(), Some(tracker.clone()))));
        Self {
            graph: RwLock::new(CallGraph::new(config.max_targets, config.max_calls)),
            config,
            clock,
            agent_settings,
            tool_settings,
            model_settings,
            tracker,
            spans: Mutex::default(),
            reported: Mutex::default(),
            exhausted: Mutex::default(),
        }
    }

    /// Monitors these agents too.
    pub fn add_agents<A: Into<String>>(&self, agents: impl IntoIterator<Item = A>) {
        agents.into_iter().for_each(|agent| drop(self.add(Target::agent(agent))));
    }

    /// Monitors a target and returns its breaker; `None` if `max_targets` is reached.
    pub fn add(&self, target: impl Into<Target>) -> Option<Arc<CircuitBreaker>> {
        let target = target.into();
        let id = self.id(target.kind, &target.name)?;
        Some(self.read_graph().breaker(id).clone())
    }

    /// Returns the breaker of a monitored target. A string is the name of an agent.
    pub fn breaker(&self, target: impl Into<Target>) -> Option<Arc<CircuitBreaker>> {
        let target = target.into();
        let graph = self.read_graph();
        graph.find(target.kind, &target.name).map(|id| graph.breaker(id).clone())
    }

    /// Alias of [`breaker`](Self::breaker), the name in the Python package `agent-sre`.
    pub fn get_breaker(&self, target: impl Into<Target>) -> Option<Arc<CircuitBreaker>> {
        self.breaker(target)
    }

    /// Records that `caller` calls `callee`. Both are monitored from now on.
    pub fn add_call(&self, caller: impl Into<Target>, callee: impl Into<Target>) {
        let (caller, callee) = (caller.into(), callee.into());
        let caller = self.id(caller.kind, &caller.name);
        let callee = self.id(callee.kind, &callee.name);
        self.connect(caller, callee);
    }

    /// Returns the current cascade, if there is one: enough open circuits, or failures along a path of the call graph.
    ///
    /// Takes time proportional to the number of failing targets and of their direct and indirect callers.
    pub fn check_cascade(&self) -> Option<CascadeReport> {
        self.check_cascade_at(self.clock.now())
    }

    /// Like [`check_cascade`](Self::check_cascade), at a given time, for replays.
    pub fn check_cascade_at(&self, now: Timestamp) -> Option<CascadeReport> {
        self.detect(now).map(|cascade| cascade.report)
    }

    /// Returns the names of the agents whose circuits are open, sorted.
    pub fn affected_agents(&self) -> Vec<String> {
        let open = self.tracker.failing_at(self.clock.now()).open;
        let graph = self.read_graph();
        let targets = open.iter().map(|id| graph.breaker(*id).target());
        let mut agents: Vec<String> =
            targets.filter(|target| target.kind == TargetKind::Agent).map(|target| target.name.clone()).collect();
        agents.sort_unstable();
        agents
    }

    /// Alias of [`affected_agents`](Self::affected_agents), the name in the Python package `agent-sre`.
    pub fn get_affected_agents(&self) -> Vec<String> {
        self.affected_agents()
    }

    /// Closes every breaker and clears its failures. The call graph stays.
    pub fn reset_all(&self) {
        // Resets happen outside the lock, since they send signals.
        let breakers = self.read_graph().breakers().to_vec();
        breakers.iter().for_each(|breaker| breaker.reset());
        self.reported().mitigated.clear();
    }

    /// Returns how many times a new target or call was ignored because its limit is reached, plus the number of state transitions
    /// dropped because they were not taken in time.
    pub fn overflow(&self) -> u64 {
        self.read_graph().rejected + self.tracker.outlet.dropped()
    }

    pub(crate) fn read_graph(&self) -> RwLockReadGuard<'_, CallGraph> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_graph(&self) -> RwLockWriteGuard<'_, CallGraph> {
        self.graph.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reported(&self) -> MutexGuard<'_, Reported> {
        lock(&self.reported)
    }

    pub(crate) fn breakers(&self, ids: &[u32]) -> Vec<Arc<CircuitBreaker>> {
        let graph = self.read_graph();
        ids.iter().map(|id| graph.breaker(*id).clone()).collect()
    }

    /// Returns the id of a target, which is monitored from now on; `None` if `max_targets` is reached.
    pub(crate) fn id(&self, kind: TargetKind, name: &str) -> Option<u32> {
        let known = self.read_graph().find(kind, name);
        known.or_else(|| {
            let settings = match kind {
                TargetKind::Tool => &self.tool_settings,
                TargetKind::Model => &self.model_settings,
                _ => &self.agent_settings,
            };
            self.write_graph().add(kind, name, settings)
        })
    }

    pub(crate) fn connect(&self, caller: Option<u32>, callee: Option<u32>) {
        if let (Some(caller), Some(callee)) = (caller, callee)
            && !self.read_graph().has_call(caller, callee)
        {
            self.write_graph().add_call(caller, callee);
        }
    }

    fn detect(&self, now: Timestamp) -> Option<Cascade> {
        let FailingTargets { mut failing, mut open } = self.tracker.failing_at(now);
        if self.config.mitigation == Mitigation::Open {
            // A circuit opened by the mitigation is no evidence of a failure.
            let reported = self.reported();
            open.retain(|id| !reported.mitigated.contains(*id));
            failing.retain(|id, _| !reported.mitigated.contains(*id));
        }
        if open.len() < self.config.cascade_threshold && failing.len() < self.config.path_threshold {
            return None;
        }
        let graph = self.read_graph();
        let mut path = longest_path(&failing, |id| graph.callers(id));
        if open.len() < self.config.cascade_threshold && path.len() < self.config.path_threshold {
            return None;
        }
        if path.len() < 2
            && let Some(first) = open.first()
        {
            path = vec![*first];
        }
        let affected: Vec<u32> = path.iter().chain(&open).copied().collect();
        let exposed = graph.all_callers(&affected);
        let healthy_callers = match self.config.mitigation {
            Mitigation::None => FxHashSet::default(),
            _ => {
                let callers = affected.iter().flat_map(|id| graph.callers(*id)).copied();
                // Targets with open circuits are among the failing ones.
                callers.filter(|id| !failing.contains_key(id)).collect()
            }
        };
        let target = |id: &u32| graph.breaker(*id).target().clone();
        let mut report = CascadeReport::new(target(path.first()?));
        report.path =
            path.iter().map(|id| FailingTarget::new(target(id), failing.get(id).copied().unwrap_or(now))).collect();
        report.open = open.iter().map(target).collect();
        report.exposed = exposed.len();
        report.blast_radius = exposed.iter().take(MAX_BLAST_RADIUS).map(target).collect();
        Some(Cascade { report, healthy_callers })
    }

    /// Emits the begin and end of cascades and applies the mitigation.
    fn react(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        let cascade = self.detect(now);
        let outlet = &self.tracker.outlet;
        let plan = {
            let mut reported = self.reported();
            let origin = cascade.as_ref().map(|cascade| &cascade.report.origin);
            if reported.origin.as_ref() != origin {
                let over = reported.origin.take().map(|origin| CascadeReport::over(origin, now));
                let begun = cascade.as_ref().map(|cascade| cascade.report.clone().into_signal(now));
                reported.origin = origin.cloned();
                reported.signal = begun.as_ref().or(over.as_ref()).cloned();
                outlet.queue_all(over.into_iter().chain(begun));
            }
            let callers = cascade.map(|cascade| cascade.healthy_callers).unwrap_or_default();
            let graph = self.read_graph();
            let has_closed = |id| graph.breaker(id).state() == BreakerState::Closed;
            reported.mitigated.plan(self.config.mitigation, callers, has_closed)
        };
        outlet.flush_to(signals);
        let mitigation = self.config.mitigation;
        self.breakers(&plan.apply).iter().for_each(|breaker| mitigation.apply(breaker));
        self.breakers(&plan.lift).iter().for_each(|breaker| mitigation.lift(breaker));
        outlet.flush_to(signals);
    }

    /// Records the result of a call of `callee`, at the time of `event`.
    fn record(&self, callee: Option<u32>, event: &AgentEvent, success: bool, error: Option<&str>) {
        let Some(callee) = callee else { return };
        let breaker = self.read_graph().breaker(callee).clone();
        let class = (!success).then(|| ErrorClass::from_message(error.unwrap_or_default()));
        let duration = event.event.duration_ms().and_then(|millis| Duration::try_from_secs_f64(millis / 1e3).ok());
        breaker.record_observed(class, duration, event.time);
    }

    /// Records the calls and results in an event.
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
            spans.record(event, agent, |caller, callee| self.connect(Some(caller), Some(callee)));
        }
    }
}

impl Observe for CascadeDetector {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        self.learn(event);
        if self.tracker.take_changed() {
            self.react(event.time, signals);
        }
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        self.breakers(&self.tracker.opened()).iter().for_each(|breaker| breaker.advance_to(now));
        self.tracker.evict_recovered(now);
        self.tracker.take_changed();
        self.react(now, signals);
    }

    fn reassert(&self, signals: &mut dyn FnMut(Signal)) {
        self.tracker.reassert();
        let reported = self.reported();
        self.tracker.outlet.queue_all(reported.signal.clone());
        drop(reported);
        self.tracker.outlet.flush_to(signals);
    }

    fn connect(&self, signals: Arc<dyn SignalSink>) {
        self.tracker.outlet.connect(signals);
    }
}

impl Collect for CascadeDetector {
    /// Returns the breakers of all targets that have failed since the start, and the current cascade.
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        let mut breakers = self.breakers(&self.tracker.ever_failed());
        breakers.sort_by(|one, other| one.target().cmp(other.target()));
        let breakers = breakers.iter().map(|breaker| Snapshot::Breaker(breaker.snapshot_at(now)));
        breakers.chain(self.check_cascade_at(now).map(Snapshot::Cascade)).collect()
    }
}

/// Opens the circuit of an agent whose error budget is exhausted, if the objective's exhaustion action is `circuit_break`. Once
/// for each time that it is exhausted: the circuit closes as others do.
impl SignalHandler for CascadeDetector {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        for signal in signals {
            let SignalKind::SloStatusChanged(change) = &signal.kind else { continue };
            let is_exhausted =
                (change.to, change.exhaustion_action) == (Status::Exhausted, ExhaustionAction::CircuitBreak);
            let known = match is_exhausted {
                true => lock(&self.exhausted).insert(signal.key.clone(), signal.time),
                false => lock(&self.exhausted).remove(&signal.key),
            };
            if is_exhausted
                && known != Some(signal.time)
                && let Some(breaker) = self.add(&*signal.agent)
            {
                breaker.trip(&format!("error budget of {} exhausted", signal.slo));
            }
        }
    }
}

impl fmt::Debug for CascadeDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CascadeDetector")
            .field("config", &self.config)
            .field("targets", &self.read_graph().breakers().len())
            .finish_non_exhaustive()
    }
}
