"""Forwards the traces of the OpenAI Agents SDK."""
import sys
from typing import Optional

from ._sender import error_of, install_once, sender
from ._values import Bounded, arguments_of


def tap(agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> None:
    """Adds a trace processor. A trace is a task of `agent`, or of an agent with the name of the workflow:
    `RunConfig(workflow_name="support")`. Nothing is forwarded while tracing is disabled.

    A process installs it once: a later call with other settings is ignored with a warning."""
    _install(sender("openai-agents", url, token, agent))


@install_once
def _install(events):
    from agents import add_trace_processor
    from agents.tracing import TracingProcessor

    # The exceptions inside whose handlers traces run.
    handled = Bounded()

    class Processor(TracingProcessor):
        def on_trace_start(self, trace):
            handled[trace.trace_id] = sys.exc_info()[1]
            events.forward(_line, "trace_start", trace, events.agent)

        def on_trace_end(self, trace):
            error = sys.exc_info()[1]
            if error is not handled.pop(trace.trace_id, None) and error is not None:
                events.forward(_exception, trace, error)
            events.forward(_line, "trace_end", trace, events.agent)

        def on_span_start(self, span):
            events.forward(_line, "span_start", span)

        def on_span_end(self, span):
            events.forward(_line, "span_end", span)

        def force_flush(self):
            events.flush()

        def shutdown(self):
            """Leaves the flush to the exit of the process, so that both together have one time limit."""

    add_trace_processor(Processor())


def _line(event, exported, agent=None):
    line = {"event": event, **(exported.export() or {})}
    if agent:
        line["workflow_name"] = agent
    data = line.get("span_data")
    if isinstance(data, dict):
        # Messages stay here; the arguments of a tool are its input.
        dropped = ("output", "mcp_data") if data.get("type") == "function" else ("output", "mcp_data", "input")
        line["span_data"] = {key: value for key, value in data.items() if key not in dropped}
        if "input" in line["span_data"]:
            line["span_data"]["input"] = arguments_of(data["input"])
    line.pop("metadata", None)
    return line


def _exception(trace, error):
    """Returns the end of an agent span with the exception of a run, which the SDK reports for its own exceptions only."""
    from agents.exceptions import InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered

    if isinstance(error, (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered)):
        return None
    span = {"id": f"raised_{trace.trace_id}", "trace_id": trace.trace_id, "span_data": {"type": "agent", "name": trace.name}}
    return {"event": "span_end", **span, "error": {"message": error_of(error)}}
