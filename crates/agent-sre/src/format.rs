use std::fmt;
use std::str::FromStr;

use sre_core::{Adapter, NativeAdapter, RunLimits};

/// A form in which agents' runs come in, as commands and addresses name it.
///
/// ```
/// use agent_sre::{Format, RunLimits};
/// let adapter = "sre".parse::<Format>().unwrap().adapter(RunLimits::default());
/// assert_eq!(adapter.stats().open_runs, 0);
/// assert!("fax".parse::<Format>().unwrap_err().to_string().starts_with("found `fax`, expected one of sre"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// This project's own JSON Lines.
    Sre,
    /// LangGraph's `astream_events`, version 2.
    #[cfg(feature = "langgraph")]
    LangGraph,
    /// The OpenAI Agents SDK's traces.
    #[cfg(feature = "openai-agents")]
    OpenAiAgents,
    /// OpenTelemetry export requests, as JSON lines or a protobuf body.
    #[cfg(feature = "otel")]
    Otlp,
}

/// No form that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected one of {}", names())]
pub struct UnknownFormat {
    found: String,
}

impl Format {
    /// Every form that this build reads.
    pub const ALL: &'static [Self] = &[
        Self::Sre,
        #[cfg(feature = "langgraph")]
        Self::LangGraph,
        #[cfg(feature = "openai-agents")]
        Self::OpenAiAgents,
        #[cfg(feature = "otel")]
        Self::Otlp,
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sre => "sre",
            #[cfg(feature = "langgraph")]
            Self::LangGraph => "langgraph",
            #[cfg(feature = "openai-agents")]
            Self::OpenAiAgents => "openai-agents",
            #[cfg(feature = "otel")]
            Self::Otlp => "otlp",
        }
    }

    /// What it is, for those who must choose.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Sre => "This project's own JSON Lines",
            #[cfg(feature = "langgraph")]
            Self::LangGraph => "LangGraph's `astream_events`, version 2",
            #[cfg(feature = "openai-agents")]
            Self::OpenAiAgents => "The OpenAI Agents SDK's traces",
            #[cfg(feature = "otel")]
            Self::Otlp => "OpenTelemetry export requests, as JSON lines or a protobuf body",
        }
    }

    /// A reader of it.
    pub fn adapter(self, limits: RunLimits) -> Box<dyn Adapter> {
        match self {
            Self::Sre => Box::new(NativeAdapter::new(limits)),
            #[cfg(feature = "langgraph")]
            Self::LangGraph => Box::new(crate::langgraph::LangGraphAdapter::new(limits, Default::default())),
            #[cfg(feature = "openai-agents")]
            Self::OpenAiAgents => Box::new(crate::openai_agents::OpenAiAgentsAdapter::new(limits, Default::default())),
            #[cfg(feature = "otel")]
            Self::Otlp => Box::new(crate::otel::OtelAdapter::new(limits)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.iter().find(|format| format.as_str() == name);
        known.copied().ok_or_else(|| UnknownFormat { found: name.to_owned() })
    }
}

fn names() -> String {
    Format::ALL.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ")
}
