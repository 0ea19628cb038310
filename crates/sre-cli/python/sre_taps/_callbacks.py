"""The callbacks of LangChain, which LangGraph calls, too."""
import contextvars

from ._values import Bounded, text_of

CALLBACKS = [f"on_{kind}_{stage}" for kind in ("chain", "tool", "retriever", "llm") for stage in ("start", "end", "error")]
CALLBACKS += ["on_chat_model_start", "on_llm_new_token"]


def install(sender, convert):
    """Sends what `convert(name, arguments, run_id, parent_run_id, fields)` returns for the callbacks of every run of the process
    from now on."""
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tracers.context import register_configure_hook

    filtered = _Filter(convert)
    methods = {name: _method(sender, filtered, name) for name in CALLBACKS}
    # Inline, callbacks are handled in their order.
    handler = type("SreTap", (BaseCallbackHandler,), {"run_inline": True, **methods})()
    register_configure_hook(contextvars.ContextVar("sre_taps", default=handler), inheritable=True)


def _method(sender, convert, name):
    def method(_self, *arguments, run_id, parent_run_id=None, **fields):
        sender.forward(convert, name, arguments, run_id, parent_run_id, fields)

    return method


class _Filter:
    """Leaves out the tokens of a model call after the first, and exceptions that are no failures."""

    def __init__(self, convert):
        self.convert, self._silent = convert, Bounded()

    def __call__(self, name, arguments, run_id, parent_run_id, fields):
        if name in ("on_chat_model_start", "on_llm_start"):
            self._silent[run_id] = True
        elif name == "on_llm_new_token":
            if run_id not in self._silent:
                return None
            self._silent.pop(run_id, None)
        elif name in ("on_llm_end", "on_llm_error"):
            self._silent.pop(run_id, None)
        if name.endswith("_error") and _is_control_flow(arguments[0]):
            name, arguments = name.replace("_error", "_end"), (None,)
        return self.convert(name, arguments, str(run_id), parent_run_id and str(parent_run_id), fields)


def _is_control_flow(error):
    """Returns whether LangGraph raised an exception to interrupt a run or to leave a subgraph, which is no failure."""
    return any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)


def name_of(arguments, fields):
    """Returns the name of what starts."""
    serialized = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
    return fields.get("name") or serialized.get("name")


def metadata_of(fields):
    """Returns the metadata of a start that are used."""
    metadata = fields.get("metadata") or {}
    return {key: metadata[key] for key in ("langgraph_node", "ls_provider", "ls_model_name") if key in metadata}


def error_of(error):
    """Returns an exception as LangChain's own serialization has it."""
    return {"error_type": type(error).__name__, "message": text_of(error)}


def message_of(result):
    """Returns tokens and model of the answer in an `LLMResult`."""
    generations = getattr(result, "generations", None)
    message = getattr(generations[0][0], "message", None) if generations and generations[0] else None
    response = getattr(message, "response_metadata", None) or {}
    kept = {key: response[key] for key in ("model_name", "model_provider", "token_usage") if key in response}
    return {"usage_metadata": getattr(message, "usage_metadata", None), "response_metadata": kept}


def tool_result_of(output):
    """Returns the status of a `ToolMessage`; `None` of another result."""
    status = getattr(output, "status", None)
    return {"status": status, "tool_call_id": getattr(output, "tool_call_id", None)} if isinstance(status, str) else None
