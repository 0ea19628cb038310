//! The dialects of agent instrumentations, one table each. A new dialect needs only a new table.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// The role of a span in an agent's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// An agent or workflow; the topmost one of a trace is the task.
    Agent,
    /// A step; without a parent, the task.
    Chain,
    Step,
    ModelCall,
    ToolCall,
    Evaluator,
    /// A request to an agent in another process, reported by its transport.
    RemoteCall,
    /// The execution of the tool call above it: its failure is that of the call.
    ToolExecution,
    /// A request of the Model Context Protocol that calls a tool: a tool call, or the execution of the one above it.
    McpToolCall,
    /// Any other request of the Model Context Protocol, such as a list of tools: no event.
    McpRequest,
    /// A request of the Model Context Protocol as its server sees it, whose client in another process reports it: no event.
    McpServed,
}

impl Role {
    pub(crate) fn is_mcp(self) -> bool {
        matches!(self, Self::McpToolCall | Self::McpRequest | Self::McpServed)
    }
}

/// What marks a span of a dialect.
pub(crate) enum Marker {
    /// An attribute; its value determines the role of the span.
    Attribute(&'static str),
    /// The beginning of the span's name; the whole name determines the role.
    SpanName(&'static str),
}

/// How a dialect is recognised, and which attributes hold each field. The first key that is present counts.
pub(crate) struct Dialect {
    pub(crate) marker: Marker,
    pub(crate) roles: &'static [(&'static str, Role)],
    pub(crate) any_other_role: Role,
    pub(crate) agent: &'static [&'static str],
    /// Whether an agent without a name is named after its span.
    pub(crate) span_names_agent: bool,
    pub(crate) step: &'static [&'static str],
    pub(crate) model: &'static [&'static str],
    pub(crate) provider: &'static [&'static str],
    pub(crate) input_tokens: &'static [&'static str],
    pub(crate) output_tokens: &'static [&'static str],
    pub(crate) cached_input_tokens: &'static [&'static str],
    pub(crate) cache_write_input_tokens: &'static [&'static str],
    pub(crate) cost_usd: &'static [&'static str],
    pub(crate) tool: &'static [&'static str],
    pub(crate) arguments: &'static [&'static str],
    /// The id that the model assigned to the tool call.
    pub(crate) tool_call_id: &'static [&'static str],
    /// The number of the attempt with which a model call ended.
    pub(crate) attempt: &'static [&'static str],
    /// The keys of the inner arguments, if the dialect wraps them.
    pub(crate) arguments_in: &'static [&'static str],
    pub(crate) first_token: FirstToken,
}

pub(crate) enum FirstToken {
    Seconds(&'static str),
    Milliseconds(&'static str),
    /// The time of a span event of that name.
    SpanEvent(&'static str),
}

const GEN_AI_MODEL: &[&str] = &["gen_ai.response.model", "gen_ai.request.model"];
const GEN_AI_PROVIDER: &[&str] = &["gen_ai.provider.name", "gen_ai.system"];
const GEN_AI_INPUT: &[&str] = &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"];
const GEN_AI_OUTPUT: &[&str] = &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"];
const GEN_AI_CACHED: &[&str] = &["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"];
const GEN_AI_CACHE_WRITE: &[&str] = &[
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
];
const GEN_AI_CHUNK: FirstToken = FirstToken::Seconds("gen_ai.response.time_to_first_chunk");

/// In order of precedence: a span may be marked by two dialects.
pub(crate) static DIALECTS: [Dialect; 8] =
    [VERCEL_AI, OPEN_INFERENCE, CLAUDE_CODE, MCP, GEN_AI, TRACELOOP, A2A, HAYSTACK];

/// <https://ai-sdk.dev/docs/ai-sdk-core/telemetry>
const VERCEL_AI: Dialect = Dialect {
    marker: Marker::Attribute("ai.operationId"),
    roles: &[
        ("ai.generateText", Role::Agent),
        ("ai.streamText", Role::Agent),
        ("ai.generateObject", Role::Agent),
        ("ai.streamObject", Role::Agent),
        ("ai.generateText.doGenerate", Role::ModelCall),
        ("ai.streamText.doStream", Role::ModelCall),
        ("ai.generateObject.doGenerate", Role::ModelCall),
        ("ai.streamObject.doStream", Role::ModelCall),
        ("ai.toolCall", Role::ToolCall),
    ],
    any_other_role: Role::Step,
    agent: &["ai.telemetry.functionId", "ai.telemetry.metadata.agent", "ai.telemetry.metadata.agentName"],
    span_names_agent: false,
    step: &[],
    model: &["gen_ai.response.model", "ai.response.model", "gen_ai.request.model", "ai.model.id"],
    provider: &["gen_ai.system", "ai.model.provider"],
    input_tokens: &["ai.usage.inputTokens", "gen_ai.usage.input_tokens", "ai.usage.promptTokens"],
    output_tokens: &["ai.usage.outputTokens", "gen_ai.usage.output_tokens", "ai.usage.completionTokens"],
    cached_input_tokens: &["ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"],
    cache_write_input_tokens: &["ai.usage.inputTokenDetails.cacheWriteTokens"],
    cost_usd: &[],
    tool: &["ai.toolCall.name"],
    arguments: &["ai.toolCall.args", "ai.toolCall.input"],
    tool_call_id: &["ai.toolCall.id"],
    attempt: &[],
    arguments_in: &[],
    first_token: FirstToken::Milliseconds("ai.response.msToFirstChunk"),
};

/// <https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md>
const OPEN_INFERENCE: Dialect = Dialect {
    marker: Marker::Attribute("openinference.span.kind"),
    roles: &[
        ("AGENT", Role::Agent),
        ("CHAIN", Role::Chain),
        ("LLM", Role::ModelCall),
        ("TOOL", Role::ToolCall),
        ("EVALUATOR", Role::Evaluator),
    ],
    any_other_role: Role::Step,
    agent: &["agent.name", "graph.node.id"],
    span_names_agent: true,
    step: &["graph.node.id"],
    model: &["llm.response.model_name", "llm.model_name"],
    provider: &["llm.provider", "llm.system"],
    input_tokens: &["llm.token_count.prompt"],
    output_tokens: &["llm.token_count.completion"],
    cached_input_tokens: &["llm.token_count.prompt_details.cache_read"],
    cache_write_input_tokens: &["llm.token_count.prompt_details.cache_write"],
    cost_usd: &["llm.cost.total"],
    tool: &["tool.name"],
    // Some instrumentations put the schema of the tool into `tool.parameters`, so the input comes first.
    arguments: &["input.value", "tool.parameters"],
    tool_call_id: &["tool_call.id"],
    attempt: &[],
    arguments_in: &[],
    first_token: FirstToken::SpanEvent("First Token Stream Event"),
};

/// The GenAI conventions of all versions, the newest names first:
///
/// - 0.1.0 of <https://github.com/open-telemetry/semantic-conventions-genai> (autumn 2026), the first release of their own
///   repository. It renamed `cache_creation` to `cache_write`, replaced `gen_ai.workflow.name` by `gen_ai.agent.name`, and
///   removed the agent's id, its version, the provider and the cached tokens from internal agent spans.
/// - 1.37 to 1.41 of <https://github.com/open-telemetry/semantic-conventions>.
/// - 1.36 and before, with `gen_ai.system`; before 1.27, also `prompt_tokens` and `completion_tokens`.
const GEN_AI: Dialect = Dialect {
    marker: Marker::Attribute("gen_ai.operation.name"),
    roles: &[
        ("invoke_agent", Role::Agent),
        ("invoke_workflow", Role::Agent),
        ("chat", Role::ModelCall),
        ("text_completion", Role::ModelCall),
        ("generate_content", Role::ModelCall),
        ("execute_tool", Role::ToolCall),
    ],
    any_other_role: Role::Step,
    agent: &["gen_ai.agent.name", "gen_ai.workflow.name", "traceloop.workflow.name"],
    span_names_agent: false,
    step: &["gen_ai.task.name", "traceloop.entity.name"],
    model: GEN_AI_MODEL,
    provider: GEN_AI_PROVIDER,
    input_tokens: GEN_AI_INPUT,
    output_tokens: GEN_AI_OUTPUT,
    cached_input_tokens: GEN_AI_CACHED,
    cache_write_input_tokens: GEN_AI_CACHE_WRITE,
    cost_usd: &[],
    tool: &["gen_ai.tool.name", "traceloop.entity.name"],
    arguments: &["gen_ai.tool.call.arguments", "traceloop.entity.input"],
    tool_call_id: &["gen_ai.tool.call.id"],
    attempt: &[],
    // OpenLLMetry wraps the arguments together with the call's metadata, which differs for every call.
    arguments_in: &["inputs", "input_str"],
    first_token: GEN_AI_CHUNK,
};

/// <https://www.traceloop.com/docs/openllmetry>, for spans without GenAI attributes.
const TRACELOOP: Dialect = Dialect {
    marker: Marker::Attribute("traceloop.span.kind"),
    roles: &[("workflow", Role::Agent), ("agent", Role::Agent), ("tool", Role::ToolCall)],
    any_other_role: Role::Step,
    agent: &["gen_ai.agent.name", "traceloop.workflow.name", "traceloop.entity.name"],
    span_names_agent: false,
    step: &["traceloop.entity.name"],
    tool: &["traceloop.entity.name"],
    arguments: &["traceloop.entity.input"],
    ..GEN_AI
};

/// The spans of the Claude Agent SDK, which have the attributes of the GenAI conventions:
/// <https://code.claude.com/docs/en/monitoring-usage>
const CLAUDE_CODE: Dialect = Dialect {
    marker: Marker::SpanName("claude_code."),
    roles: &[
        ("claude_code.interaction", Role::Agent),
        ("claude_code.llm_request", Role::ModelCall),
        ("claude_code.tool", Role::ToolCall),
        ("claude_code.tool.execution", Role::ToolExecution),
        ("claude_code.tool.blocked_on_user", Role::ToolExecution),
    ],
    attempt: &["attempt"],
    first_token: FirstToken::Milliseconds("ttft_ms"),
    ..GEN_AI
};

/// The MCP conventions of 0.1.0 of <https://github.com/open-telemetry/semantic-conventions-genai>. Some clients name the tool
/// in the span's name only.
const MCP: Dialect = Dialect {
    marker: Marker::Attribute("mcp.method.name"),
    roles: &[(MCP_TOOL_CALL, Role::McpToolCall)],
    any_other_role: Role::McpRequest,
    ..GEN_AI
};

/// The A2A conventions of 0.1.0 of <https://github.com/open-telemetry/semantic-conventions-genai>.
const A2A: Dialect = Dialect {
    marker: Marker::Attribute("a2a.method.name"),
    roles: &[],
    any_other_role: Role::RemoteCall,
    step: &["gen_ai.agent.name"],
    ..NO_FIELDS
};

/// Haystack's own spans, without content: <https://docs.haystack.deepset.ai/docs/tracing>
const HAYSTACK: Dialect = Dialect {
    marker: Marker::SpanName("haystack."),
    roles: &[
        ("haystack.pipeline.run", Role::Agent),
        ("haystack.async_pipeline.run", Role::Agent),
        ("haystack.agent.run", Role::Agent),
        ("haystack.agent.step.llm", Role::ModelCall),
        ("haystack.agent.step.tool", Role::ToolCall),
    ],
    any_other_role: Role::Step,
    step: &["haystack.component.name"],
    tool: &["haystack.tool.name"],
    arguments: &["haystack.agent.step.tool.input"],
    ..NO_FIELDS
};

const NO_FIELDS: Dialect = Dialect {
    marker: Marker::Attribute(""),
    roles: &[],
    any_other_role: Role::Step,
    agent: &[],
    span_names_agent: false,
    step: &[],
    model: &[],
    provider: &[],
    input_tokens: &[],
    output_tokens: &[],
    cached_input_tokens: &[],
    cache_write_input_tokens: &[],
    cost_usd: &[],
    tool: &[],
    arguments: &[],
    tool_call_id: &[],
    attempt: &[],
    arguments_in: &[],
    first_token: GEN_AI_CHUNK,
};

/// The method that calls a tool; in a span's name, the tool comes after it.
pub(crate) const MCP_TOOL_CALL: &str = "tools/call";

/// Marks an older model call that has GenAI attributes but no operation.
pub(crate) const LLM_REQUEST_TYPE: &str = "llm.request.type";
pub(crate) const GEN_AI_TABLE: &Dialect = &GEN_AI;
/// Attributes that mark a failure where the span's status does not: of OpenLLMetry, Haystack and A2A.
pub(crate) const FAILURES: [(&str, &str); 4] = [
    ("gen_ai.task.status", "failure"),
    ("haystack.tool.error", "true"),
    ("a2a.task.state", "TASK_STATE_FAILED"),
    ("a2a.task.state", "TASK_STATE_REJECTED"),
];
pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const EVALUATION_EVENT: &str = "gen_ai.evaluation.result";
pub(crate) const EVALUATION_NAME: &str = "gen_ai.evaluation.name";
pub(crate) const EVALUATION_SCORE: &str = "gen_ai.evaluation.score.value";
pub(crate) const EVALUATION_LABEL: &str = "gen_ai.evaluation.score.label";
/// The attributes for the host that a client span called.
pub(crate) const HOST: &[&str] = &["server.address", "net.peer.name", "http.host", "url.full", "http.url"];
/// The ids of a call that both sides know.
pub(crate) const A2A_MESSAGE_ID: &str = "a2a.message.id";
pub(crate) const A2A_TASK_ID: &str = "a2a.task.id";
pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const MCP_SESSION_ID: &str = "mcp.session.id";
pub(crate) const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
pub(crate) const HTTP_STATUS: &[&str] = &["http.response.status_code", "http.status_code"];

/// How many times a client has sent the request of a span before; absent for the first attempt.
pub(crate) const HTTP_RESEND_COUNT: &str = "http.request.resend_count";

/// Hosts whose HTTP requests are model calls, in spans without a dialect.
const MODEL_HOSTS: [&str; 16] = [
    "api.openai.com",
    ".openai.azure.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "-aiplatform.googleapis.com",
    "bedrock-runtime.",
    "api.mistral.ai",
    "api.cohere.com",
    "api.cohere.ai",
    "api.groq.com",
    "api.deepseek.com",
    "api.together.xyz",
    "api.fireworks.ai",
    "api.perplexity.ai",
    "api.x.ai",
    "openrouter.ai",
];

pub(crate) fn is_model_host(host: &str) -> bool {
    MODEL_HOSTS.iter().any(|known| host.contains(known))
}

/// Returns the key as a static string, or `None` if it is in no table.
pub(crate) fn known_key(key: &str) -> Option<&'static str> {
    static KEYS: LazyLock<FxHashMap<&'static str, &'static str>> = LazyLock::new(|| {
        let mut keys = vec![LLM_REQUEST_TYPE, ERROR_TYPE, "event.name"];
        keys.extend(FAILURES.map(|(key, _)| key));
        keys.extend([EVALUATION_NAME, EVALUATION_SCORE, EVALUATION_LABEL]);
        keys.extend(HOST);
        keys.extend(HTTP_STATUS);
        keys.push(HTTP_RESEND_COUNT);
        keys.extend([A2A_MESSAGE_ID, A2A_TASK_ID, MCP_SESSION_ID, JSONRPC_REQUEST_ID]);
        for dialect in &DIALECTS {
            if let Marker::Attribute(marker) = dialect.marker {
                keys.push(marker);
            }
            let lists = [
                dialect.agent,
                dialect.step,
                dialect.model,
                dialect.provider,
                dialect.input_tokens,
                dialect.output_tokens,
                dialect.cached_input_tokens,
                dialect.cache_write_input_tokens,
                dialect.cost_usd,
                dialect.tool,
                dialect.arguments,
                dialect.tool_call_id,
                dialect.attempt,
            ];
            keys.extend(lists.into_iter().flatten());
            if let FirstToken::Seconds(key) | FirstToken::Milliseconds(key) = dialect.first_token {
                keys.push(key);
            }
        }
        keys.into_iter().map(|key| (key, key)).collect()
    });
    KEYS.get(key).copied()
}

/// Returns the name of a span event as a static string, or `None` if it is in no table.
pub(crate) fn known_span_event(name: &str) -> Option<&'static str> {
    DIALECTS.iter().find_map(|dialect| match dialect.first_token {
        FirstToken::SpanEvent(known) if known == name => Some(known),
        _ => None,
    })
}
