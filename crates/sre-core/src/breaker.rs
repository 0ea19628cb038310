use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Metric, MetricUnit};

/// Something that can be called and can fail: an agent, or what agents depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Its name among those of its kind.
    pub name: String,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// An agent.
    Agent,
    /// A tool.
    Tool,
    /// A language model.
    Model,
}

impl TargetKind {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Model => "model",
        }
    }
}

impl Target {
    /// An agent.
    pub fn agent(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Agent, name: name.into() }
    }

    /// A tool.
    pub fn tool(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Tool, name: name.into() }
    }

    /// A language model.
    pub fn model(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Model, name: name.into() }
    }

    /// The agent that a signal about it is about; empty for what is none.
    pub fn agent_name(&self) -> &str {
        if self.kind == TargetKind::Agent { &self.name } else { "" }
    }
}

/// A text is an agent's name.
impl From<&str> for Target {
    fn from(name: &str) -> Self {
        Self::agent(name)
    }
}

/// A text is an agent's name.
impl From<String> for Target {
    fn from(name: String) -> Self {
        Self::agent(name)
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a circuit breaker does with calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Lets them through, and watches.
    #[default]
    Closed,
    /// Refuses them until the recovery time is over.
    Open,
    /// Lets a few through to see whether they succeed.
    HalfOpen,
    /// Refuses them until somebody resets it.
    ForcedOpen,
    /// Lets them through without watching, until somebody resets it.
    Disabled,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::Disabled];

    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
        }
    }

    /// True where calls are refused.
    pub const fn refuses(self) -> bool {
        matches!(self, Self::Open | Self::ForcedOpen)
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A breaker turned to another state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerChange {
    /// Whose breaker.
    pub target: Target,
    /// The state before.
    pub from: BreakerState,
    /// The state now.
    pub to: BreakerState,
    /// How many times it has changed, this one included: what two threads say at once can be put in order by it.
    pub number: u32,
    /// Why, for people: `5 failures in a row`.
    pub reason: String,
    /// Seconds until trial calls are let through; `None` where no time is set.
    pub retry_after_s: Option<f64>,
}

/// A circuit breaker at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerSnapshot {
    /// Whose breaker.
    #[serde(flatten)]
    pub target: Target,
    /// What it does with calls.
    pub state: BreakerState,
    /// Failures in a row; 0 where a sliding window decides.
    pub failure_count: u32,
    /// What the sliding window holds, where one decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowedCalls>,
    /// Seconds until trial calls are let through, while it is open.
    pub retry_after_s: Option<f64>,
    /// Times that it opened, since the start.
    pub opened: u64,
    /// Calls that it refused.
    pub rejected: u64,
    /// Results that came after the state they began in was over, and decided nothing.
    pub late: u64,
}

impl BreakerSnapshot {
    /// Emits the breaker's metrics, labelled with the `kind` and name of its `target`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let target = [("kind", self.target.kind.as_str()), ("target", self.target.name.as_str())];
        for state in BreakerState::ALL {
            let is = f64::from(u8::from(self.state == state));
            let metric = Metric::gauge("sre.breaker.state", is).with_labels(&target);
            emit(metric.with_label("state", state.as_str()).with_help("1 for the current state."));
        }
        let rates = self.window.map(|window| (window.failure_rate(), window.slow_call_rate())).unwrap_or_default();
        let failures = Some(f64::from(self.failure_count));
        for (name, value, unit, help) in [
            ("sre.breaker.consecutive_failures", failures, MetricUnit::None, "Consecutive failures."),
            ("sre.breaker.failure_rate", rates.0, MetricUnit::Ratio, "Share of failed calls in the sliding window."),
            ("sre.breaker.slow_call_rate", rates.1, MetricUnit::Ratio, "Share of slow calls in the sliding window."),
            (
                "sre.breaker.retry_after",
                self.retry_after_s,
                MetricUnit::Seconds,
                "Time until an open breaker lets probes through.",
            ),
        ] {
            if let Some(value) = value {
                emit(Metric::gauge(name, value).with_unit(unit).with_labels(&target).with_help(help));
            }
        }
        for (name, count, help) in [
            ("sre.breaker.opened", self.opened, "Times the breaker opened."),
            ("sre.breaker.rejected_calls", self.rejected, "Calls the breaker rejected."),
        ] {
            emit(Metric::counter(name, count as f64).with_labels(&target).with_help(help));
        }
    }
}

/// The calls of a sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowedCalls {
    /// All of them.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that took too long, failed or not.
    pub slow: u64,
}

impl WindowedCalls {
    /// The share of calls that failed; `None` without calls.
    pub fn failure_rate(self) -> Option<f64> {
        (self.calls > 0).then(|| self.failed as f64 / self.calls as f64)
    }

    /// The share of calls that took too long; `None` without calls.
    pub fn slow_call_rate(self) -> Option<f64> {
        (self.calls > 0).then(|| self.slow as f64 / self.calls as f64)
    }
}
