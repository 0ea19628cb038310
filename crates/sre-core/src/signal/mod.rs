mod fail_on;
mod guards;
mod kind;
mod outlet;
mod slo;
mod status;

pub use fail_on::FailOn;
pub use kind::{CascadeEnd, SignalKind, SloStatusChange};
pub use outlet::SignalOutlet;
pub use status::{ExhaustionAction, InvalidName, Status};

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Severity, Timestamp};

/// A conclusion of an engine, complete in itself: handlers need no knowledge of the engine.
///
/// Signals of one [`key`](Self::key) are about one incident, which [`Phase::Firing`] begins or continues and
/// [`Phase::Resolved`] ends. A signal is idempotent: one with the same key, state and time as an earlier one is a
/// repeat, so engines may send what still holds again ([`Observe::reassert`](crate::Observe::reassert)).
///
/// ```
/// use sre_core::{Severity, Signal, Timestamp};
/// let at = Timestamp::from_secs(1_790_000_000);
/// let mut signal = Signal::firing("queue", "queue/ingest", Severity::Warning, at);
/// signal.title = "Queue ingest: 9,000 waiting".into();
/// assert_eq!(signal.state, "firing");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Signal {
    /// When the state that it reports began; of a one-off, when it happened.
    pub time: Timestamp,
    /// The agent concerned; may be empty.
    pub agent: String,
    /// The objective concerned; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub slo: String,
    /// The engine, such as `slo`, `cascade` or `cost`.
    pub source: Cow<'static, str>,
    /// The incident key, such as `slo/answers/support`. Every one-off has a key of its own, which ends with its time.
    pub key: String,
    /// Whether it begins, ends, or is a single occurrence.
    pub phase: Phase,
    /// The state within the incident, such as `critical` or `half_open`: repeats of a state are coalesced.
    pub state: Cow<'static, str>,
    /// How bad it is; [`Severity::Resolved`] for what ends.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// A sentence or two for people.
    pub message: String,
    /// Labels for routing and silences.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Typed details, for handlers that act on them.
    pub kind: SignalKind,
}

/// How a signal relates to the incident of its key.
///
/// Exhaustive: a signal begins or continues an incident, ends one, or belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The incident begins or goes on.
    Firing,
    /// The incident is over.
    Resolved,
    /// A single occurrence that neither begins nor ends anything.
    OneOff,
}

impl Signal {
    /// Returns a signal that begins or continues the incident of `key`.
    pub fn firing(
        source: impl Into<Cow<'static, str>>,
        key: impl Into<String>,
        severity: Severity,
        time: Timestamp,
    ) -> Self {
        Self::new(source.into(), key.into(), Phase::Firing, "firing", severity, time)
    }

    /// Returns a signal that ends the incident of `key`.
    pub fn resolved(source: impl Into<Cow<'static, str>>, key: impl Into<String>, time: Timestamp) -> Self {
        Self::new(source.into(), key.into(), Phase::Resolved, "resolved", Severity::Resolved, time)
    }

    /// Returns a signal about a single occurrence at `time`. Its key is `key/TIME`, so that a later occurrence is a signal of
    /// its own, and one that is sent twice is recognised.
    pub fn one_off(
        source: impl Into<Cow<'static, str>>,
        key: impl Into<String>,
        severity: Severity,
        time: Timestamp,
    ) -> Self {
        let key = format!("{}/{time}", key.into());
        Self::new(source.into(), key, Phase::OneOff, "occurred", severity, time)
    }

    fn new(
        source: Cow<'static, str>,
        key: String,
        phase: Phase,
        state: &'static str,
        severity: Severity,
        time: Timestamp,
    ) -> Self {
        Self {
            time,
            agent: String::new(),
            slo: String::new(),
            source,
            key,
            phase,
            state: state.into(),
            severity,
            title: String::new(),
            message: String::new(),
            labels: BTreeMap::new(),
            kind: SignalKind::Custom { data: serde_json::Value::Null },
        }
    }

    /// Returns the signal with the agent that it concerns.
    #[must_use]
    pub fn with_agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Returns the signal with the state that it reports; see [`Signal::state`].
    #[must_use]
    pub fn with_state(mut self, state: impl Into<Cow<'static, str>>) -> Self {
        self.state = state.into();
        self
    }

    /// Returns the signal with texts for people.
    #[must_use]
    pub fn with_text(mut self, title: impl Into<String>, message: impl Into<String>) -> Self {
        self.title = title.into();
        self.message = message.into();
        self
    }

    /// Returns the signal with typed details.
    #[must_use]
    pub fn with_kind(mut self, kind: SignalKind) -> Self {
        self.kind = kind;
        self
    }

    /// Returns true for a signal that reports the same state of the same incident, begun at the same time.
    pub fn repeats(&self, earlier: &Self) -> bool {
        (&self.key, self.phase, &self.state, self.time) == (&earlier.key, earlier.phase, &earlier.state, earlier.time)
    }
}

/// Where engines send signals that they raise outside of [`Observe`](crate::Observe)'s calls. A closure will do.
pub trait SignalSink: Send + Sync {
    /// Takes a signal. Called with no lock held by the engine; must be quick.
    fn send(&self, signal: Signal);
}

impl<F: Fn(Signal) + Send + Sync> SignalSink for F {
    fn send(&self, signal: Signal) {
        self(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_survives_json() {
        let at = Timestamp::from_secs(1_790_000_000);
        let mut signal = Signal::one_off("own", "own/1", Severity::Info, at).with_agent("support").with_text("t", "m");
        signal.kind = SignalKind::Custom { data: serde_json::json!({"depth": 3}) };
        let json = serde_json::to_string(&signal).unwrap();
        assert_eq!(serde_json::from_str::<Signal>(&json).unwrap(), signal, "{json}");
    }

    #[test]
    fn only_the_same_state_of_the_same_time_repeats() {
        let at = Timestamp::from_secs(1_790_000_000);
        let critical = Signal::firing("slo", "slo/a/b", Severity::Critical, at).with_state("critical");
        assert!(critical.clone().with_text("other", "words").repeats(&critical));
        assert!(!critical.clone().with_state("exhausted").repeats(&critical));
        assert!(!Signal::firing("slo", "slo/a/b", Severity::Critical, Timestamp::default()).repeats(&critical));
    }
}
