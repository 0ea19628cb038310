use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use agent_sre::cascade::{CascadeDetector, DetectorConfig};
use agent_sre::{
    AgentEvent, BreakerState, CascadeReport, Observer, Signal, SignalKind, SystemClock, Target, Timestamp, lock,
};

/// What breakers would have done during the run, had they guarded its calls.
pub(crate) struct Breakers {
    detector: CascadeDetector,
    seen: Mutex<BreakerFindings>,
}

/// When which breaker would have opened, and which cascades there were.
#[derive(Clone, Default, serde::Serialize)]
pub(crate) struct BreakerFindings {
    pub(crate) breakers: Vec<BreakerFinding>,
    pub(crate) cascades: Vec<CascadeFinding>,
    #[serde(skip)]
    places: BTreeMap<Target, usize>,
}

/// A breaker that would have opened.
#[derive(Clone, serde::Serialize)]
pub(crate) struct BreakerFinding {
    #[serde(flatten)]
    pub(crate) target: Target,
    /// As of the input's end.
    pub(crate) state: BreakerState,
    /// How often it opened.
    pub(crate) opened: u64,
    /// The first hundred times.
    pub(crate) openings: Vec<Opening>,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct Opening {
    pub(crate) opened_at: Timestamp,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) reason: String,
}

/// A cascade, as it was when it was found.
#[derive(Clone, serde::Serialize)]
pub(crate) struct CascadeFinding {
    pub(crate) found_at: Timestamp,
    pub(crate) over_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) report: CascadeReport,
}

/// So many openings of a breaker, and so many cascades, are told of one by one.
const TOLD: usize = 100;

impl Breakers {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Arc<Self>> {
        let config = DetectorConfig::load(path)?;
        let detector = CascadeDetector::with_config(config, Arc::new(SystemClock))?;
        Ok(Arc::new(Self { detector, seen: Mutex::default() }))
    }

    /// What was found by `now`, in the order in which breakers opened first.
    pub(crate) fn findings(&self, now: Timestamp) -> BreakerFindings {
        self.evaluate(now, &mut |_| {});
        lock(&self.seen).clone()
    }

    fn take(&self, signal: &Signal) {
        lock(&self.seen).take(signal);
    }
}

impl Observer for Breakers {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        self.detector.observe(event, &mut |signal| self.take(&signal));
    }

    fn evaluate(&self, now: Timestamp, _signals: &mut dyn FnMut(Signal)) {
        self.detector.evaluate(now, &mut |signal| self.take(&signal));
    }
}

impl BreakerFindings {
    fn take(&mut self, signal: &Signal) {
        match &signal.kind {
            SignalKind::BreakerChanged(change) => {
                let place = *self.places.entry(change.target.clone()).or_insert(self.breakers.len());
                if place == self.breakers.len() {
                    let target = change.target.clone();
                    let finding = BreakerFinding { target, state: change.to, opened: 0, openings: Vec::new() };
                    self.breakers.push(finding);
                }
                self.breakers[place].turn(change.to, signal.time, &change.reason);
            }
            SignalKind::Cascade(report) if self.cascades.len() < TOLD => {
                let (found_at, report) = (signal.time, report.clone());
                self.cascades.push(CascadeFinding { found_at, over_at: None, report });
            }
            SignalKind::CascadeOver { .. } => {
                if let Some(cascade) = self.cascades.last_mut() {
                    cascade.over_at.get_or_insert(signal.time);
                }
            }
            _ => {}
        }
    }
}

impl BreakerFinding {
    fn turn(&mut self, to: BreakerState, at: Timestamp, reason: &str) {
        self.state = to;
        if to == BreakerState::Open {
            self.opened += 1;
            if self.openings.len() < TOLD {
                self.openings.push(Opening { opened_at: at, closed_at: None, reason: reason.to_owned() });
            }
        } else if to == BreakerState::Closed && self.opened as usize == self.openings.len() {
            // It opened again after each trial that failed; the last trial closes all of these.
            self.openings.iter_mut().for_each(|opening| {
                opening.closed_at.get_or_insert(at);
            });
        }
    }
}
