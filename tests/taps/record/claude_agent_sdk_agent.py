import os
import tempfile

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, create_sdk_mcp_server, query, tool


def make(base_url, lookup):
    @tool("lookup", "Looks an order up.", {"q": str})
    async def call(arguments):
        return {"content": [{"type": "text", "text": lookup(arguments["q"])}]}

    telemetry = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    env = telemetry | {
        "ANTHROPIC_BASE_URL": base_url.removesuffix("/v1"), "ANTHROPIC_API_KEY": "none", "HOME": tempfile.mkdtemp(),
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1", "OTEL_TRACES_EXPORTER": "otlp",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "OTEL_BSP_SCHEDULE_DELAY": "5000",
    }
    options = ClaudeAgentOptions(
        env=env, model="claude-sonnet-4-5", mcp_servers={"orders": create_sdk_mcp_server("orders", tools=[call])},
        allowed_tools=["mcp__orders__lookup"], setting_sources=[], cwd=tempfile.mkdtemp(), max_turns=5)

    async def answer(prompt):
        results = [message async for message in query(prompt=prompt, options=options) if isinstance(message, ResultMessage)]
        if results[-1].is_error:
            raise RuntimeError(results[-1].result)
        return results[-1].result

    return answer
