"""Forwards the callbacks of LangChain."""
import functools
from typing import Optional

from . import _callbacks
from ._sender import install_once, sender
from ._values import arguments_of


def tap(agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> None:
    """Forwards every run of a chain, agent, model, tool or retriever in this process.

    A run without a parent is a task of `agent`, or of an agent that is named after the chain. For graphs of LangGraph, use
    `sre_taps.langgraph` instead; with both taps, runs count twice.

    A process installs it once: a later call with other settings is ignored with a warning."""
    _install(sender("langchain", url, token, agent))


@install_once
def _install(events):
    _callbacks.install(events, functools.partial(_line, events.agent))


def _line(agent, name, arguments, run_id, parent_run_id, fields):
    line = {"event": name, "run_id": run_id, "parent_run_id": parent_run_id}
    if name.endswith("_start"):
        line.update(name=_callbacks.name_of(arguments, fields), metadata=_callbacks.metadata_of(fields))
        if parent_run_id is None and agent:
            line["agent"] = agent
        if name == "on_tool_start":
            line.update(inputs=arguments_of(fields.get("inputs")), tool_call_id=fields.get("tool_call_id"))
    elif name.endswith("_error"):
        line["args"] = [_callbacks.error_of(arguments[0])]
    elif name == "on_llm_end":
        output = {"token_usage": (getattr(arguments[0], "llm_output", None) or {}).get("token_usage")}
        line["args"] = [{"generations": [[{"message": _callbacks.message_of(arguments[0])}]], "llm_output": output}]
    elif name == "on_tool_end":
        line["args"] = [_callbacks.tool_result_of(arguments[0])]
    return line
