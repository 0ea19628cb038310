use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::names;

/// A callee that can fail: an agent, or a tool or model that agents depend on.
///
/// Exhaustive: kind and name together are its identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "schema",
    schema(description = "A callee that can fail: an agent, or a tool or model that agents depend on.")
)]
pub struct Target {
    /// The kind of callee.
    pub kind: TargetKind,
    /// The name, unique within its kind.
    pub name: String,
}

/// The kind of a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetKind {
    /// An agent.
    Agent,
    /// A tool.
    Tool,
    /// A language model.
    Model,
}

names! {
    /// Every kind.
    TargetKind { Agent: "agent", Tool: "tool", Model: "model" }
}

impl Target {
    /// Creates the target for an agent.
    pub fn agent(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Agent, name: name.into() }
    }

    /// Creates the target for a tool.
    pub fn tool(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Tool, name: name.into() }
    }

    /// Creates the target for a language model.
    pub fn model(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Model, name: name.into() }
    }

    /// Returns the name of an agent, or an empty string for a tool or a model. This is the agent of signals about the target.
    pub fn agent_name(&self) -> &str {
        if self.kind == TargetKind::Agent { &self.name } else { "" }
    }
}

/// Creates an agent target.
impl From<&str> for Target {
    fn from(name: &str) -> Self {
        Self::agent(name)
    }
}

/// Creates an agent target.
impl From<String> for Target {
    fn from(name: String) -> Self {
        Self::agent(name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The state of a circuit breaker.
///
/// Exhaustive: code that reads a state must know whether it admits calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "The state of a circuit breaker."))]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Admits calls and counts their results.
    #[default]
    Closed,
    /// Rejects calls until the recovery timeout elapses.
    Open,
    /// Admits a few probe calls, whose results decide whether the breaker closes or opens again.
    HalfOpen,
    /// Rejects calls until the breaker is reset.
    ForcedOpen,
    /// Admits calls without counting their results, until the breaker is reset.
    Disabled,
}

names! {
    /// Every state.
    BreakerState {
        Closed: "closed",
        Open: "open",
        HalfOpen: "half_open",
        ForcedOpen: "forced_open",
        Disabled: "disabled",
    }
}

impl BreakerState {
    /// Returns true for the states that reject every call: `Open` and `ForcedOpen`.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::ForcedOpen)
    }
}

/// A state transition of a circuit breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BreakerChange {
    /// The callee that the breaker protects.
    pub target: Target,
    /// The state before.
    pub from: BreakerState,
    /// The state after.
    pub to: BreakerState,
    /// Increases with every transition of this breaker: orders transitions reported by concurrent threads.
    pub number: u32,
    /// The cause, for people: `5 consecutive failures`.
    pub reason: String,
    /// Seconds until probe calls are admitted; `None` unless the breaker opened for a limited time.
    pub retry_after_s: Option<f64>,
}

impl BreakerChange {
    /// Creates a transition without `retry_after_s`.
    pub fn new(target: Target, from: BreakerState, to: BreakerState, number: u32, reason: impl Into<String>) -> Self {
        Self { target, from, to, number, reason: reason.into(), retry_after_s: None }
    }
}

/// The state and counters of a circuit breaker at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The callee that the breaker protects.
    #[serde(flatten)]
    pub target: Target,
    /// The state.
    pub state: BreakerState,
    /// Consecutive failures, or failures in the sliding window; while open, those that opened the breaker; while half-open, failed
    /// probe calls.
    pub failure_count: u32,
    /// Calls in the sliding window, when one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowedCalls>,
    /// Seconds until probe calls are admitted, while the breaker is open.
    pub retry_after_s: Option<f64>,
    /// Number of times the breaker has opened since it was created.
    pub opened: u64,
    /// Number of rejected calls.
    pub rejected: u64,
    /// Number of results ignored because the state in which their call began had ended.
    pub late: u64,
}

impl BreakerSnapshot {
    /// Creates a snapshot whose counters are zero.
    pub const fn new(target: Target, state: BreakerState) -> Self {
        Self { target, state, failure_count: 0, window: None, retry_after_s: None, opened: 0, rejected: 0, late: 0 }
    }
}

/// Counts of the calls in a sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct WindowedCalls {
    /// All calls.
    pub calls: u64,
    /// Failed calls.
    pub failed: u64,
    /// Slow calls, failed or not.
    pub slow: u64,
}

impl WindowedCalls {
    /// Creates the counts of a window.
    pub const fn new(calls: u64, failed: u64, slow: u64) -> Self {
        Self { calls, failed, slow }
    }

    /// Returns the ratio of failed calls, or `None` when there are no calls.
    pub fn failure_rate(self) -> Option<f64> {
        (self.calls > 0).then(|| self.failed as f64 / self.calls as f64)
    }

    /// Returns the ratio of slow calls, or `None` when there are no calls.
    pub fn slow_call_rate(self) -> Option<f64> {
        (self.calls > 0).then(|| self.slow as f64 / self.calls as f64)
    }
}
