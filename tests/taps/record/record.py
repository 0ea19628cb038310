"""Records the OTLP requests of a framework's own instrumentation, with the ground truth beside them.

`python record.py pydantic-ai` imports pydantic_ai_agent.py, whose `make(base_url, lookup)` returns a function that answers a prompt, runs
each scenario in a process of its own against a local model server, and writes tests/recordings/otlp-pydantic-ai/. The truth is counted by
the model server and the tool, not read from the spans. README.md has the packages of each framework.
"""
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import pathlib
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer

import model_server

SCENARIOS = {
    "all_ok": ["#tool How is order 1?", "How are you?"],
    "client_retry": ["#retry How are you?"],
    "task_failure": ["#tool How is order 1?", "#fail How are you?"],
    "tool_failure_recovered": ["#flaky How is order 1?", "How are you?"],
}
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "recordings"
scenario = None


def module_of(name):
    return f"{name.replace('-', '_')}_agent"


def run(name):
    """Runs the tasks of the scenario and writes its recording."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry import trace
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    server = ThreadingHTTPServer(("127.0.0.1", 0), model_server.Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    os.environ.update(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf", OTEL_EXPORTER_OTLP_COMPRESSION="none",
                      OTEL_SERVICE_NAME="support", OPENAI_API_KEY="none", OPENAI_BASE_URL=f"{url}/v1", OTEL_BSP_SCHEDULE_DELAY="600000")
    module = importlib.import_module(module_of(name))
    answer = module.make(f"{url}/v1", model_server.lookup)
    prompts = getattr(module, "SCENARIOS", SCENARIOS)[scenario]

    async def main():
        for prompt in prompts:
            model_server.truth["tasks"] += 1
            try:
                result = answer(prompt)
                print(name, scenario, "->", await result if inspect.isawaitable(result) else result)
                model_server.truth["succeeded"] += 1
            except Exception as error:
                print(name, scenario, "failed:", repr(error)[:200])
                model_server.truth["failed"] += 1

    if getattr(module, "BLOCKING", False):  # Frameworks that start a loop of their own.
        with contextlib.suppress(StopIteration):
            main().send(None)
    else:
        asyncio.run(main())
    if hasattr(trace.get_tracer_provider(), "force_flush"):
        trace.get_tracer_provider().force_flush()
    folder = FOLDER / f"otlp-{name}"
    folder.mkdir(exist_ok=True)
    requests = [without_stacktraces(ExportTraceServiceRequest.FromString(body)) for body in model_server.exported]
    for part, request in enumerate(requests):
        (folder / f"{scenario}.{part}.bin").write_bytes(request.SerializeToString())
    (folder / f"{scenario}.jsonl").write_text("".join(json.dumps(MessageToDict(request)) + "\n" for request in requests))
    (folder / f"{scenario}.expected.json").write_text(json.dumps(model_server.truth, indent=1) + "\n")


def without_stacktraces(request):
    """Removes stack traces, which hold the paths of a machine."""
    for resource in request.resource_spans:
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            for event in span.events:
                kept = [attribute for attribute in event.attributes if attribute.key != "exception.stacktrace"]
                del event.attributes[:]
                event.attributes.extend(kept)
    return request


def provider():
    """Returns a tracer provider that exports to the recorder."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


if __name__ == "__main__":
    sys.modules["record"] = sys.modules["__main__"]
    if len(sys.argv) > 2:
        scenario = sys.argv[2]
        run(sys.argv[1])
    else:
        module_scenarios = getattr(importlib.import_module(module_of(sys.argv[1])), "SCENARIOS", SCENARIOS)
        for each in module_scenarios:
            subprocess.run([sys.executable, __file__, sys.argv[1], each], check=True)
