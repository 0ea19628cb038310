//! What an objective keeps over a restart.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use sre_core::private::lock;
use sre_core::{Persist, Phase, Severity, Signal, SignalKind, StateError, StateReader, StateWriter, Status, Timestamp};

use super::Slo;

/// The last change of status that was signalled.
#[derive(Debug, Default)]
pub(super) struct Transition {
    pub(super) status: Status,
    /// The share of the error budget that the last evaluation found left.
    pub(super) remaining: Option<f64>,
    /// The signal of it, once there was an incident.
    pub(super) signal: Option<Box<Signal>>,
    /// Whether the next evaluation signals the status even if it has not changed: an incident that began after the state was
    /// saved may be over without this objective knowing of it.
    pub(super) is_unconfirmed: bool,
}

impl Transition {
    fn restored(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let (status, signal): (Status, Option<String>) = state.take()?;
        let signal = signal.map(|json| signals_of(&json)).transpose()?;
        let is_unconfirmed = signal.is_none();
        Ok(Self { status, remaining: None, signal, is_unconfirmed })
    }
}

/// Reads signals that were saved as JSON.
pub(crate) fn signals_of<T: DeserializeOwned>(json: &str) -> Result<T, StateError> {
    serde_json::from_str(json).map_err(|error| StateError::new(format!("found no signal ({error})")))
}

/// Returns the signal of the incident that was open when [`Slo::save`] wrote the state.
pub(crate) fn open_incident(state: &mut StateReader<'_>) -> Result<Option<Signal>, StateError> {
    for section in state.sections() {
        if let (TRANSITION, mut section) = section? {
            let signal = Transition::restored(&mut section)?.signal;
            return Ok(signal.map(|signal| *signal).filter(|signal| signal.phase == Phase::Firing));
        }
    }
    Ok(None)
}

/// Returns the end of an incident whose objective has been removed since it began.
pub(crate) fn end_of_removed(begun: Signal, now: Timestamp) -> Signal {
    let of = if begun.agent.is_empty() { begun.slo.clone() } else { format!("{} of {}", begun.slo, begun.agent) };
    let mut end = begun.with_text(format!("{of}: removed"), "The objective is no longer configured.");
    (end.time, end.phase, end.severity) = (now, Phase::Resolved, Severity::Resolved);
    end.state = Status::Unknown.as_str().into();
    if let SignalKind::SloStatusChanged(change) = &mut end.kind {
        (change.from, change.to) = (change.to, Status::Unknown);
        (change.burn, change.alert, change.spent_in_s, change.indicator) = (None, None, None, None);
    }
    end
}

/// Names of the saved sections that do not belong to an indicator.
const TRANSITION: &str = "transition";
const BUDGET: &str = "budget";
const COSTS: &str = "costs";
const COMPOSITE: &str = "composite";
const LAST_BAD: &str = "last_bad";

impl Slo {
    /// Saves the counts, so that they survive a restart.
    pub fn save(&self, state: &mut StateWriter) {
        let transition = lock(&self.transition);
        let signal = transition.signal.as_ref().and_then(|signal| serde_json::to_string(signal).ok());
        let status = transition.status;
        drop(transition);
        state.section(TRANSITION, |state| state.put(&(status, signal)));
        state.section(BUDGET, |state| self.budget.save(state));
        if let Some(costs) = &self.costs {
            state.section(COSTS, |state| lock(costs).save(state));
        }
        if let Some(composite) = &self.composite {
            state.section(COMPOSITE, |state| composite.save(state));
        }
        if let Some(last_bad) = *lock(&self.last_bad) {
            state.section(LAST_BAD, |state| state.put(&last_bad));
        }
        for indicator in &self.indicators {
            state.section(&indicator.section, |state| indicator.sli.save(state));
        }
    }

    /// Adds saved counts, also those of an objective with other targets or indicators. An indicator that is new, or had another
    /// window, starts empty.
    ///
    /// # Errors
    ///
    /// Returns an error if the saved state is damaged.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        for section in state.sections() {
            let (name, mut section) = section?;
            match (name, &self.costs, &self.composite) {
                (TRANSITION, ..) => {
                    let mut transition = Transition::restored(&mut section)?;
                    // The action may have been configured since, and holds for what is exhausted already.
                    if let Some(SignalKind::SloStatusChanged(change)) =
                        transition.signal.as_mut().map(|signal| &mut signal.kind)
                    {
                        change.exhaustion_action = self.budget.config().exhaustion_action;
                    }
                    *lock(&self.transition) = transition;
                }
                (BUDGET, ..) => self.budget.restore(&mut section)?,
                (COSTS, Some(costs), _) => lock(costs).restore(&mut section)?,
                (COMPOSITE, _, Some(composite)) => composite.restore(&mut section)?,
                (LAST_BAD, ..) => *lock(&self.last_bad) = Some(section.take()?),
                _ => {
                    let own = self.indicators.iter().find(|own| own.section == name);
                    own.map_or(Ok(()), |own| own.sli.restore(&mut section))?;
                }
            }
        }
        Ok(())
    }
}

impl Persist for Slo {
    fn name(&self) -> Cow<'_, str> {
        if self.agent.is_empty() { (&*self.name).into() } else { format!("{}/{}", self.name, self.agent).into() }
    }

    fn save(&self, state: &mut StateWriter) {
        Self::save(self, state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        Self::restore(self, state)
    }
}
