use std::fmt;
use std::str::FromStr;

use sre_core::{Adapter, NativeAdapter, RunLimits};

/// An input format of agent runs, with the name that commands and URLs use.
///
/// ```
/// use agent_sre::{Format, RunLimits};
/// let adapter = "sre".parse::<Format>().unwrap().adapter(RunLimits::default());
/// assert_eq!(adapter.stats().open_runs, 0);
/// assert!("fax".parse::<Format>().unwrap_err().to_string().starts_with("found `fax`, expected one of sre"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Format(usize);

/// A name that is not a format of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected one of {}", names())]
pub struct UnknownFormat {
    found: String,
}

struct Row {
    name: &'static str,
    description: &'static str,
    adapter: fn(RunLimits) -> Box<dyn Adapter>,
}

/// All formats that this build reads. To add an adapter, add a row.
static FORMATS: &[Row] = &[
    Row {
        name: "sre",
        description: "Native JSON Lines of agent-sre",
        adapter: |limits| Box::new(NativeAdapter::new(limits)),
    },
    #[cfg(feature = "langgraph")]
    Row {
        name: "langgraph",
        description: "LangGraph's `astream_events`, version 2",
        adapter: |limits| Box::new(crate::langgraph::LangGraphAdapter::new(limits, Default::default())),
    },
    #[cfg(feature = "openai-agents")]
    Row {
        name: "openai-agents",
        description: "The OpenAI Agents SDK's traces",
        adapter: |limits| Box::new(crate::openai_agents::OpenAiAgentsAdapter::new(limits, Default::default())),
    },
    #[cfg(feature = "otel")]
    Row {
        name: "otlp",
        description: "OpenTelemetry export requests, as JSON lines or a protobuf body",
        adapter: |limits| Box::new(crate::otel::OtelAdapter::new(limits)),
    },
];

impl Format {
    /// Returns all formats that this build reads.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..FORMATS.len()).map(Self)
    }

    /// Returns the name.
    pub fn as_str(self) -> &'static str {
        FORMATS[self.0].name
    }

    /// Returns a description in one line.
    pub fn description(self) -> &'static str {
        FORMATS[self.0].description
    }

    /// Creates an adapter for the format.
    pub fn adapter(self, limits: RunLimits) -> Box<dyn Adapter> {
        (FORMATS[self.0].adapter)(limits)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::all().find(|format| format.as_str() == name).ok_or_else(|| UnknownFormat { found: name.to_owned() })
    }
}

fn names() -> String {
    Format::all().map(Format::as_str).collect::<Vec<_>>().join(", ")
}
