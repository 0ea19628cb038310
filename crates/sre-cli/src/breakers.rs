use std::collections::BTreeMap;

use agent_sre::{BreakerState, CascadeReport, Signal, SignalKind, Target, Timestamp};

/// Breakers that would have opened, ordered by their first opening, and cascades.
#[derive(Clone, Default, serde::Serialize)]
pub(crate) struct BreakerFindings {
    pub(crate) breakers: Vec<BreakerFinding>,
    pub(crate) cascades: Vec<CascadeFinding>,
    #[serde(skip)]
    index: BTreeMap<Target, usize>,
}

/// A breaker that would have opened.
#[derive(Clone, serde::Serialize)]
pub(crate) struct BreakerFinding {
    #[serde(flatten)]
    pub(crate) target: Target,
    /// The state at the end of the input.
    pub(crate) state: BreakerState,
    /// Number of times the breaker opened.
    pub(crate) opened: u64,
    /// The first [`MAX_LISTED`] openings.
    pub(crate) openings: Vec<Opening>,
}

#[derive(Clone, serde::Serialize)]
pub(crate) struct Opening {
    pub(crate) opened_at: Timestamp,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) reason: String,
}

/// A cascade, as of its detection.
#[derive(Clone, serde::Serialize)]
pub(crate) struct CascadeFinding {
    pub(crate) found_at: Timestamp,
    pub(crate) over_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) report: CascadeReport,
}

/// Maximum number of openings listed per breaker, and of cascades.
const MAX_LISTED: usize = 100;

impl BreakerFindings {
    /// Records a state transition or a cascade; other signals are ignored.
    pub(crate) fn record(&mut self, signal: &Signal) {
        match &signal.kind {
            SignalKind::BreakerChanged(change) => {
                let index = *self.index.entry(change.target.clone()).or_insert(self.breakers.len());
                if index == self.breakers.len() {
                    let target = change.target.clone();
                    let finding = BreakerFinding { target, state: change.to, opened: 0, openings: Vec::new() };
                    self.breakers.push(finding);
                }
                self.breakers[index].transition_to(change.to, signal.time, &change.reason);
            }
            SignalKind::Cascade(report) if self.cascades.len() < MAX_LISTED => {
                let (found_at, report) = (signal.time, report.clone());
                self.cascades.push(CascadeFinding { found_at, over_at: None, report });
            }
            SignalKind::CascadeOver(_) => {
                if let Some(cascade) = self.cascades.last_mut() {
                    cascade.over_at.get_or_insert(signal.time);
                }
            }
            _ => {}
        }
    }
}

impl BreakerFinding {
    fn transition_to(&mut self, to: BreakerState, at: Timestamp, reason: &str) {
        self.state = to;
        if to == BreakerState::Open {
            self.opened += 1;
            if self.openings.len() < MAX_LISTED {
                self.openings.push(Opening { opened_at: at, closed_at: None, reason: reason.to_owned() });
            }
        } else if to == BreakerState::Closed && self.opened as usize == self.openings.len() {
            // Failed probe calls reopen the breaker: closing it ends all of those openings.
            self.openings.iter_mut().for_each(|opening| {
                opening.closed_at.get_or_insert(at);
            });
        }
    }
}
