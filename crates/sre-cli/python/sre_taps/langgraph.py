"""Forwards the events of LangGraph, in the shape of `astream_events(version="v2")`."""
from typing import Optional

from . import _callbacks
from ._sender import install_once, sender
from ._values import Bounded, arguments_of

# Runs whose end is awaited. LangChain ends every run.
_MAX_OPEN = 100_000


def tap(agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> None:
    """Forwards every run of a graph in this process, however it is called: `invoke`, `ainvoke`, `stream`, `astream` or `batch`.

    A run is a task of `agent`, or of an agent with the name of the graph: `compile(name="support")`. An exception of the graph
    is a failed task; an interrupt is none.

    A process installs it once: a later call with other settings is ignored with a warning."""
    _install(sender("langgraph", url, token, agent))


@install_once
def _install(events):
    _callbacks.install(events, _Runs(events.agent).event)


class _Runs:
    """The runs that have not ended, each with the ids of the runs around it, outermost first."""

    def __init__(self, agent):
        self.agent, self.open = agent, Bounded(_MAX_OPEN)

    def event(self, name, arguments, run_id, parent_run_id, fields):
        if name.endswith("_start"):
            around, _ = self.open.get(parent_run_id, ([], None))
            self.open[run_id] = ([*around, parent_run_id] if parent_run_id else [], name)
        parents, started = self.open.get(run_id, ([], None))
        if name.endswith(("_end", "_error")):
            self.open.pop(run_id, None)
        event = {"run_id": run_id, "parent_ids": parents, "data": _data(name, arguments, fields)}
        if name.endswith("_start"):
            of_agent = self.agent if not parents else None
            event.update(name=of_agent or _callbacks.name_of(arguments, fields), metadata=_callbacks.metadata_of(fields))
        name = name.replace("new_token", "stream")
        return {"event": name.replace("llm", "chat_model") if started == "on_chat_model_start" else name, **event}


def _data(name, arguments, fields):
    if name == "on_tool_start":
        return {"input": arguments_of(fields.get("inputs"))}
    if name == "on_tool_end":
        return {"output": _callbacks.tool_result_of(arguments[0])}
    if name.endswith("_error"):
        return {"error": _callbacks.error_of(arguments[0]), "tool_call_id": fields.get("tool_call_id")}
    return {"output": _callbacks.message_of(arguments[0])} if name == "on_llm_end" else {}
