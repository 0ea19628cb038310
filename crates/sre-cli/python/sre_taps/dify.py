"""Forwards the events of Dify workflows from the stream of their API."""
import json
from typing import AsyncIterable, AsyncIterator, Iterable, Iterator, Optional, TypeVar, overload

from ._sender import error_of, sender
from ._values import arguments_of

_EVENTS = "workflow_started workflow_finished node_started node_retry node_finished error".split()
_DATA = "id workflow_id node_type title status error elapsed_time created_at finished_at retry_index".split()


T = TypeVar("T")


@overload
def tap(
    lines: Iterable[T], agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None
) -> Iterator[T]: ...


@overload
def tap(
    lines: AsyncIterable[T], agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None
) -> AsyncIterator[T]: ...


def tap(lines, agent=None, url=None, token=None):
    """Returns the lines of an event stream unchanged, and forwards its events: `for line in tap(response.iter_lines()): …`

    `lines` are those of the answer to `/v1/workflows/run` or `/v1/chat-messages` with `response_mode: streaming`, as text or
    bytes, or the payloads as dictionaries; from an iterator or an asynchronous one. A run is a task of `agent`, or of an agent
    with the id of the workflow. It fails if the stream breaks off."""
    stream = _Stream(sender("dify", url, token, agent))
    return _each_async(lines, stream) if hasattr(lines, "__aiter__") else _each(lines, stream)


def _each(lines, stream):
    try:
        for line in lines:
            stream.read(line)
            yield line
    except BaseException as error:
        stream.end(error_of(error))
        raise
    stream.end("the stream ended before the workflow")


async def _each_async(lines, stream):
    try:
        async for line in lines:
            stream.read(line)
            yield line
    except BaseException as error:
        stream.end(error_of(error))
        raise
    stream.end("the stream ended before the workflow")


class _Stream:
    def __init__(self, events):
        self.events, self.open = events, None

    def read(self, line):
        self.events.forward(self._event, line)

    def end(self, reason):
        """Ends a workflow that is still open."""
        if self.open:
            self.events.put({"event": "error", "task_id": self.open, "message": reason})

    def _event(self, line):
        payload = _payload(line)
        event = payload.get("event")
        if event not in _EVENTS:
            return None
        task = payload.get("task_id")
        self.open = None if event in ("workflow_finished", "error") else task
        found = {"event": event, "task_id": task, "message": payload.get("message"), "data": _data(payload.get("data") or {})}
        if event == "workflow_started" and self.events.agent:
            found["agent"] = self.events.agent
        return {key: value for key, value in found.items() if value is not None}


def _payload(line):
    if isinstance(line, dict):
        return line
    text = line.decode() if isinstance(line, bytes) else line
    payload = json.loads(text[len("data:"):]) if text.startswith("data:") else {}
    return payload if isinstance(payload, dict) else {}


def _data(data):
    """Returns names, times, tokens and prices of a workflow or node, and the arguments of a tool."""
    kept = {key: data[key] for key in _DATA if data.get(key) is not None}
    if data.get("node_type") == "tool":
        kept["inputs"] = arguments_of(data.get("inputs"))
    for part, keys in [
        ("process_data", ("model_name", "model_provider", "usage")),
        ("outputs", ("usage",)),
        ("execution_metadata", ("total_price", "currency")),
    ]:
        found = data.get(part)
        if isinstance(found, dict):
            kept[part] = {key: found[key] for key in keys if key in found}
    return kept
