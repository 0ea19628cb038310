mod detect;

use std::fmt;
use std::str::FromStr;

use sre_core::{Adapter, AgentEvent, EventKind, NativeAdapter, RunLimits};

use self::detect::Record;
pub use self::detect::{UndetectedFormat, is_protobuf};

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
    /// By which [`RunLimits::max_open_bytes`] is divided for this format.
    memory_divisor: usize,
    /// Whether a record is of this format and of no other.
    recognises: fn(&Record<'_>) -> bool,
}

/// Defines the formats besides the native one: from the feature, module and crate of each adapter, the adapter itself, the name and
/// description of its format, its share of the memory of open runs, and how a record of it is recognised.
macro_rules! formats {
    ($($feature:literal $module:ident $krate:ident $adapter:ident [$($option:expr),*] $name:literal $description:literal memory 1 / $divisor:literal $recognises:expr;)*) => {
        /// All formats that this build reads.
        static FORMATS: &[Row] = &[
            Row {
                name: "sre",
                description: "Native JSON Lines of agent-sre",
                adapter: |limits| Box::new(NativeAdapter::new(limits)),
                memory_divisor: 4,
                recognises: |record| {
                    AgentEvent::from_json(record.bytes).is_ok_and(|event| event.event.kind() != EventKind::Unknown)
                },
            },
            $(
                #[cfg(feature = $feature)]
                Row {
                    name: $name,
                    description: $description,
                    adapter: |limits| Box::new($krate::$adapter::new(limits, $($option),*)),
                    memory_divisor: $divisor,
                    recognises: $recognises,
                },
            )*
        ];

        /// The crates of the adapters.
        pub(crate) mod adapters {
            $(
                #[doc = concat!($description, ".")]
                #[cfg(feature = $feature)]
                #[doc(inline)]
                pub use $krate as $module;
            )*
        }

        /// The adapters themselves.
        pub(crate) mod adapter_types {
            $(
                #[cfg(feature = $feature)]
                #[doc(no_inline)]
                pub use $krate::$adapter;
            )*
        }
    };
}

// To add an adapter, add a row.
formats! {
    "langgraph" langgraph sre_adapter_langgraph LangGraphAdapter [sre_core::Recorder::default()]
        "langgraph" "LangGraph's `astream_events`, version 2" memory 1/4
        |record| (record.is("event", &["on_*"]) && record.has("parent_ids")) || record.is("event", &["raised"]);
    "langchain" langchain sre_adapter_langchain LangChainAdapter [sre_core::Recorder::default()]
        "langchain" "LangChain's callbacks" memory 1/4
        |record| record.is("event", &["on_*"]) && record.has("run_id") && !record.has("parent_ids");
    "llamaindex" llamaindex sre_adapter_llamaindex LlamaIndexAdapter [sre_core::Recorder::default()]
        "llamaindex" "LlamaIndex's spans and events" memory 1/4
        |record| record.is("kind", &["span_enter", "span_exit", "span_drop", "event", "app"]);
    "crewai" crewai sre_adapter_crewai CrewAiAdapter [sre_core::Recorder::default()]
        "crewai" "CrewAI's events" memory 1/4
        |record| {
            const KINDS: [&str; 8] = ["crew_*", "task_*", "agent_*", "llm_*", "tool_*", "flow_*", "memory_*", "knowledge_*"];
            record.is("type", &KINDS)
        };
    "autogen" autogen sre_adapter_autogen AutoGenAdapter [sre_core::Recorder::default()]
        "autogen" "AutoGen's messages and logs" memory 1/4
        |record| {
            const KINDS: [&str; 7] =
                ["conversation_start", "TaskResult", "raised", "LLM*", "ToolCall", "*Message", "*Event"];
            record.is("type", &KINDS)
        };
    "openai-agents" openai_agents sre_adapter_openai_agents OpenAiAgentsAdapter [sre_core::Recorder::default()]
        "openai-agents" "The OpenAI Agents SDK's traces" memory 1/4
        |record| record.is("event", &["trace_start", "trace_end", "span_start", "span_end"]);
    "semantic-kernel" semantic_kernel sre_adapter_semantic_kernel SemanticKernelAdapter [sre_core::Recorder::default()]
        "semantic-kernel" "Semantic Kernel's function calls" memory 1/4
        |record| record.is("event", &["kernel_*", "function_*", "model_call"]);
    "dify" dify sre_adapter_dify DifyAdapter [sre_core::Recorder::default()]
        "dify" "Dify's workflow events" memory 1/4
        |record| {
            const KINDS: [&str; 7] = ["workflow_*", "node_*", "text_*", "iteration_*", "loop_*", "message*", "error"];
            (record.is("event", &KINDS) && record.has("task_id")) || record.is("event", &["ping"])
        };
    "otel" otel sre_adapter_otel OtelAdapter []
        "otlp" "OpenTelemetry export requests, as JSON lines or a protobuf body" memory 1/1
        |record| record.has("resourceSpans") || record.has("resourceLogs") || is_protobuf(record.bytes);
}

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

    /// Returns the limits of its adapter in a program that runs the adapters of all formats: OpenTelemetry may take all of
    /// [`RunLimits::max_open_bytes`], since it holds traces until they are complete, and the others a quarter.
    #[must_use]
    pub fn limits(self, limits: RunLimits) -> RunLimits {
        RunLimits { max_open_bytes: limits.max_open_bytes / FORMATS[self.0].memory_divisor, ..limits }
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
