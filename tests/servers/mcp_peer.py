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
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import format_span_id, format_trace_id
from starlette.responses import PlainTextResponse


class Spans(SpanExporter):
    def export(self, spans):
        with open(os.environ["MCP_SPANS"], "a") as file:
            for span in spans:
                record = {
                    "trace_id": format_trace_id(span.context.trace_id),
                    "span_id": format_span_id(span.context.span_id),
                    "name": span.name,
                    "role": span.kind.name.lower(),
                    "agent": "python",
                    "start": span.start_time / 1e9,
                    "end": span.end_time / 1e9,
                }
                if span.parent:
                    record["parent_span_id"] = format_span_id(span.parent.span_id)
                file.write(json.dumps(record) + "\n")
        return SpanExportResult.SUCCESS


provider = TracerProvider(resource=Resource({"service.name": "python"}))
provider.add_span_processor(SimpleSpanProcessor(Spans()))
trace.set_tracer_provider(provider)

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
