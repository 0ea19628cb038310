"""An agent of the official A2A SDK for Python, whose OpenTelemetry spans are written to a file.

    a2a_agent.py serve SPANS PORT GRPC_PORT [DELEGATE]
        serves JSON-RPC at /rpc and HTTP+JSON at /rest, both also for peers of version 0.3, and gRPC. With DELEGATE, it forwards the
        messages that it gets to the agent at that URL: with their ids, or with `NEW_ID=1` with ids of their own
    a2a_agent.py call SPANS URL BINDING [0.3]
        sends a message that is answered, and one whose answer streams

The SDK makes spans, and leaves their propagation to the instrumentation of the HTTP and gRPC servers and clients. With `PROPAGATE=all`, both
are instrumented; with `PROPAGATE=received`, only servers; otherwise, the trace context that it gets is dropped, too.
"""

import asyncio
import os
import sys
import uuid

import grpc
import httpx
from opentelemetry import trace

from spans import write_spans

write_spans(sys.argv[2])

# The SDK makes its spans with the provider that is set.
from a2a.client import ClientConfig, ClientFactory
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Message,
    Part,
    Role,
    SendMessageRequest,
    Task,
    TaskState,
    TaskStatus,
    a2a_pb2_grpc,
)


def instrument():
    propagated = os.environ.get("PROPAGATE")
    if propagated in ("all", "received"):
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorServer
        from opentelemetry.instrumentation.starlette import StarletteInstrumentor

        GrpcAioInstrumentorServer().instrument()
        # Of the applications that are made from now on.
        StarletteInstrumentor().instrument()
    if propagated == "all":
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

        GrpcAioInstrumentorClient().instrument()
        HTTPXClientInstrumentor().instrument()


def card(name, url, binding, version="1.0"):
    interface = AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
    return AgentCard(
        name=name,
        description="Writes.",
        version="1",
        supported_interfaces=[interface],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="write", name="write", description="Writes.", tags=["text"])],
    )


def client(url, binding, version="1.0", streaming=False):
    config = ClientConfig(
        streaming=streaming,
        supported_protocol_bindings=[binding],
        httpx_client=httpx.AsyncClient(),
        grpc_channel_factory=grpc.aio.insecure_channel,
    )
    return ClientFactory(config).create(card("agent", url, binding, version))


class Writer(AgentExecutor):
    def __init__(self, delegate):
        self.delegate = delegate

    async def execute(self, context, event_queue):
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=context.task_id, context_id=context.context_id, status=status))
        task = TaskUpdater(event_queue, context.task_id, context.context_id)
        await task.start_work()
        if self.delegate:
            has_new_id = os.environ.get("NEW_ID") == "1"
            message_id = str(uuid.uuid4()) if has_new_id else context.message.message_id
            message = Message(message_id=message_id, role=Role.ROLE_USER, parts=context.message.parts)
            async for _ in client(self.delegate, "JSONRPC").send_message(SendMessageRequest(message=message)):
                pass
        await task.add_artifact([Part(text="text")])
        if context.get_user_input() == "fail":
            await task.failed()
        else:
            await task.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


async def serve(port, grpc_port, delegate=None):
    instrument()
    import uvicorn
    from starlette.applications import Starlette

    url = f"http://127.0.0.1:{port}/rpc"
    configs = InMemoryPushNotificationConfigStore()
    handler = DefaultRequestHandler(
        agent_executor=Writer(delegate),
        task_store=InMemoryTaskStore(),
        agent_card=card("writer", url, "JSONRPC"),
        push_config_store=configs,
        push_sender=BasePushNotificationSender(httpx.AsyncClient(), configs),
    )
    routes = create_agent_card_routes(card("writer", url, "JSONRPC"))
    routes += create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=True)
    routes += create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True)
    server = grpc.aio.server()
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=int(port), log_level="warning")
    await uvicorn.Server(config).serve()


async def call(url, binding, version="1.0"):
    instrument()
    with trace.get_tracer("planner").start_as_current_span("invoke_agent planner"):
        for name, streaming in (("m-1", False), ("m-2", True)):
            message = Message(message_id=name, role=Role.ROLE_USER, parts=[Part(text="write")])
            agent = client(url, binding, version, streaming)
            async for _ in agent.send_message(SendMessageRequest(message=message)):
                pass
    # The test reads JSON.
    print("{}")


if sys.argv[1] == "serve":
    asyncio.run(serve(*sys.argv[3:]))
else:
    asyncio.run(call(*sys.argv[3:]))
