"""Forwards the spans and events of LlamaIndex's instrumentation."""
from typing import Optional

from ._sender import install_once, sender
from ._values import Bounded, text_of

_STARTS = ("LLMChatStartEvent", "LLMCompletionStartEvent")
_PROGRESS = ("LLMChatInProgressEvent", "LLMCompletionInProgressEvent")
_ENDS = ("LLMChatEndEvent", "LLMCompletionEndEvent")
_DESCRIBE_TOOLS = ("step.output", "SpanDropEvent")
_INPUT = "llamaindex.step.input_summary"


def tap(agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> None:
    """Adds handlers to the root dispatcher. A run, query or chat is a task of `agent`, or of an agent with the name of its
    class.

    A process installs it once: a later call with other settings is ignored with a warning."""
    _install(sender("llamaindex", url, token, agent))


@install_once
def _install(events):
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from llama_index.core.instrumentation.span_handlers import BaseSpanHandler

    silent = Bounded()

    class Events(BaseEventHandler):
        def handle(self, event, **_):
            events.forward(_event, event, silent)

    class Spans(BaseSpanHandler):
        def span_enter(self, id_, bound_args=None, instance=None, parent_id=None, **_):
            events.forward(_enter, id_, parent_id, events.agent)

        def span_exit(self, id_, bound_args=None, instance=None, result=None, **_):
            events.put({"kind": "span_exit", "id": id_})

        def span_drop(self, id_, bound_args=None, instance=None, err=None, **_):
            events.forward(_drop, id_, err)

        # Called by the methods above in the base class only.
        def new_span(self, *_, **__):
            return None

        def prepare_to_exit_span(self, *_, **__):
            return None

        def prepare_to_drop_span(self, *_, **__):
            return None

    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(Events())
    dispatcher.add_span_handler(Spans())


def _enter(id_, parent_id, agent):
    line = {"kind": "span_enter", "id": id_, "parent": parent_id}
    return line if parent_id or not agent else {**line, "agent": agent}


def _drop(id_, error):
    return {"kind": "span_drop", "id": id_, "error": type(error).__name__, "message": text_of(error)}


def _event(event, silent):
    """Returns the event of a model call or the description of a tool call. Of a streamed answer, only the first part is used."""
    name, span = event.class_name(), event.span_id
    line = {"kind": "event", "class_name": name, "span_id": span}
    if name in _STARTS:
        silent[span] = True
        return {**line, "model_dict": {"model": (event.model_dict or {}).get("model")}}
    if name in _PROGRESS and span in silent:
        silent.pop(span, None)
        return line
    if name in _ENDS:
        silent.pop(span, None)
        return {**line, "response": _response(event.response)}
    if name in _DESCRIBE_TOOLS and _INPUT in event.tags:
        return {**line, "tags": {_INPUT: event.tags[_INPUT]}}
    return None


def _response(response):
    """Returns model and tokens of a response."""
    raw = getattr(response, "raw", None)
    raw = raw if isinstance(raw, dict) else {"model": getattr(raw, "model", None), "usage": getattr(raw, "usage", None)}
    tokens = getattr(response, "additional_kwargs", None) or {}
    counted = {key: value for key, value in tokens.items() if key in ("prompt_tokens", "completion_tokens")}
    return {"raw": {"model": raw.get("model"), "usage": raw.get("usage")}, "additional_kwargs": counted}
