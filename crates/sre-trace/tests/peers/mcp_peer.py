"""A server and a client of the official Python SDK of the Model Context Protocol, which traces by itself.

    mcp_peer.py serve stdio|PORT
    mcp_peer.py call MODE URL|COMMAND…

`MODE` is `legacy` for versions until 2025-11-25, or a later version. The spans are appended to the file `MCP_SPANS`.
"""

import asyncio
import json
import os
import sys

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from opentelemetry import trace
from starlette.responses import PlainTextResponse

from spans import write_spans

write_spans(os.environ["MCP_SPANS"])

server = MCPServer("python", log_level="ERROR")


@server.tool()
async def received_meta(context: Context) -> str:
    """Returns the `_meta` of the request."""
    return json.dumps(dict(context.request_context.meta or {}))


@server.tool()
async def fail() -> str:
    """Fails."""
    raise ToolError("no such order")


@server.tool()
async def forward(mode: str, url: str) -> str:
    """Calls `lookup` of another server."""
    async with Client(url, mode=mode) as client:
        result = await client.call_tool("lookup", {"order": "o-1"})
    return result.content[0].text


@server.custom_route("/health", methods=["GET"])
async def health(_request):
    return PlainTextResponse("up")


async def call(mode, target):
    to = target[0]
    if not to.startswith("http"):
        to = StdioServerParameters(command=to, args=target[1:], env=dict(os.environ))
    with trace.get_tracer("agent").start_as_current_span("agent"):
        async with Client(to, mode=mode) as client:
            tools = await client.list_tools()
            found = await client.call_tool("lookup", {"order": "o-1"})
            failed = await client.call_tool("fail", {})
            answer = {
                "tools": [tool.name for tool in tools.tools],
                "lookup": found.content[0].text,
                "failed": failed.is_error,
            }
    print(json.dumps(answer))


match sys.argv[1:]:
    case ["serve", "stdio"]:
        server.run()
    case ["serve", port]:
        server.run("streamable-http", port=int(port))
    case ["call", mode, *target]:
        asyncio.run(call(mode, target))
