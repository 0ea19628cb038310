"""Forwards the messages and model calls of AutoGen (`autogen-agentchat`)."""
import contextvars
import logging
import uuid

from ._context import each_with
from ._sender import sender

# The conversation to which a log record belongs, and its sender.
_RUN = contextvars.ContextVar("sre_taps_autogen_run", default=None)


def tap(team, agent=None, url=None, token=None):
    """Forwards every `run` and `run_stream` of a team or agent, and returns it.

    A conversation is a task of `agent`, or of an agent with the name of the team. It fails if it raises, is cancelled, or its
    stream is closed before its end."""
    from autogen_agentchat.base import TaskResult

    events = sender("autogen", url, token, agent)
    original = team.run_stream

    async def run_stream(*arguments, **fields):
        run_id = uuid.uuid4().hex
        events.forward(_start, run_id, events.agent or getattr(team, "name", None))
        is_streaming = False
        try:
            async for message in each_with(_RUN, (run_id, events), original(*arguments, **fields)):
                # Only the first part of an answer is used.
                is_part = getattr(message, "type", None) == "ModelClientStreamingChunkEvent"
                if isinstance(message, TaskResult):
                    events.put({"type": "TaskResult", "run_id": run_id})
                elif not (is_part and is_streaming):
                    events.forward(_message, run_id, message)
                is_streaming = is_part
                yield message
        except BaseException as error:
            events.forward(_raised, run_id, error)
            raise

    async def run(*arguments, **fields):
        async for message in run_stream(*arguments, **fields):
            result = message
        return result

    team.run_stream, team.run = run_stream, run
    _tap_log()
    return team


def _tap_log():
    """Forwards the log of model calls. What other handlers get of it does not change."""
    from autogen_core import EVENT_LOGGER_NAME

    log = logging.getLogger(EVENT_LOGGER_NAME)
    if not any(isinstance(each, _Log) for each in log.filters):
        log.addFilter(_Log(log.getEffectiveLevel()))
        log.setLevel(min(logging.INFO, log.getEffectiveLevel()))


class _Log(logging.Filter):
    def __init__(self, level):
        super().__init__()
        self.level = level

    def filter(self, record):
        run = _RUN.get()
        if run is not None:
            run_id, events = run
            events.forward(_model_call, run_id, record.msg)
        return record.levelno >= self.level


def _start(run_id, agent):
    return {"type": "conversation_start", "run_id": run_id, "initiator": agent}


def _raised(run_id, error):
    return {"type": "raised", "run_id": run_id, "error": type(error).__name__, "message": str(error)}


def _message(run_id, message):
    line = {"type": message.type, "run_id": run_id, "id": message.id, "source": message.source}
    if message.type == "HandoffMessage":
        line["target"] = message.target
    if message.type == "ToolCallRequestEvent":
        line["content"] = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.content]
    elif message.type == "ToolCallExecutionEvent":
        line["content"] = [_execution(result) for result in message.content]
    return line


def _execution(result):
    """Returns the result of a tool, with its text if that is an error."""
    is_error = bool(result.is_error)
    return {"call_id": result.call_id, "name": result.name, "is_error": is_error, "content": result.content if is_error else ""}


def _model_call(run_id, record):
    fields = getattr(record, "kwargs", None)
    if not isinstance(fields, dict) or fields.get("type") not in ("LLMCall", "LLMStreamEnd"):
        return None
    response = fields.get("response")
    response = response if isinstance(response, dict) else {}
    line = {"type": fields["type"], "run_id": run_id, "response": {key: response.get(key) for key in ("model", "usage")}}
    return {**line, **{key: fields.get(key) or 0 for key in ("prompt_tokens", "completion_tokens")}}
