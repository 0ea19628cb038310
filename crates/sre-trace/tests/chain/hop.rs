use serde::{Deserialize, Serialize};

/// A way from one agent to the next. MCP has versions with `initialize`, until 2025-11-25, and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Hop {
    A2aJsonRpc,
    A2aHttpJson,
    A2aGrpc,
    McpStdioWithInitialize,
    McpStdio,
    McpHttpWithInitialize,
    McpHttp,
}

impl Hop {
    pub(crate) const ALL: [Self; 7] = [
        Self::A2aJsonRpc,
        Self::A2aHttpJson,
        Self::A2aGrpc,
        Self::McpStdioWithInitialize,
        Self::McpStdio,
        Self::McpHttpWithInitialize,
        Self::McpHttp,
    ];

    /// Returns the name of the spans of both sides.
    pub(crate) fn span_name(self) -> &'static str {
        match self {
            Self::A2aJsonRpc | Self::A2aHttpJson | Self::A2aGrpc => "SendMessage",
            _ => "tools/call forward",
        }
    }

    pub(crate) fn has_initialize(self) -> bool {
        matches!(self, Self::McpStdioWithInitialize | Self::McpHttpWithInitialize)
    }
}
