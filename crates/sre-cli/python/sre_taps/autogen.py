"""Forwards the messages and model calls of AutoGen (`autogen-agentchat`)."""
import contextvars
import logging
import time
import uuid
from typing import Optional, TypeVar

from ._context import each_with
from ._sender import sender
from ._values import Bounded, arguments_of, text_of

T = TypeVar("T")
# The conversation to which messages and log records belong.
_CONVERSATION = contextvars.ContextVar("sre_taps_autogen_conversation", default=None)


def tap(team: T, agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> T:
    """Forwards every `run` and `run_stream` of a team or agent, and returns it.

    A conversation is a task of `agent`, or of an agent with the name of the team. It fails if it raises, is cancelled, or its
    stream is closed before its end. A later call for the same team is ignored."""
    if not hasattr(team.run_stream, "sre_taps"):
        _wrap(team, sender("autogen", url, token, agent))
        _tap_log()
    return team


def _wrap(team, events):
    """Replaces the methods of a team that start a conversation, and those of an agent that answer messages."""
    run, run_stream = team.run, team.run_stream

    async def tapped_run(*arguments, **fields):
        with _Conversation(team, events) as conversation:
            token = _CONVERSATION.set(conversation)
            try:
                result = await run(*arguments, **fields)
            finally:
                _CONVERSATION.reset(token)
            conversation.read_all(getattr(result, "messages", None))
            return result

    async def tapped_run_stream(*arguments, **fields):
        if _conversation_of(team):
            async for message in _read(team, run_stream(*arguments, **fields)):
                yield message
            return
        with _Conversation(team, events) as conversation:
            async for message in each_with(_CONVERSATION, conversation, run_stream(*arguments, **fields)):
                conversation.read(message)
                if type(message).__name__ == "TaskResult":
                    conversation.end()
                yield message

    tapped_run_stream.sre_taps = True
    team.run, team.run_stream = tapped_run, tapped_run_stream
    if hasattr(team, "on_messages_stream"):
        on_messages, on_messages_stream = team.on_messages, team.on_messages_stream

        def tapped_on_messages(messages, *arguments, **fields):
            _read_all(team, messages)
            return on_messages(messages, *arguments, **fields)

        def tapped_on_messages_stream(messages, *arguments, **fields):
            _read_all(team, messages)
            return _read(team, on_messages_stream(messages, *arguments, **fields))

        team.on_messages, team.on_messages_stream = tapped_on_messages, tapped_on_messages_stream


def _conversation_of(team):
    """Returns the conversation of a team that is under way here."""
    conversation = _CONVERSATION.get()
    return conversation if conversation is not None and conversation.team is team else None


def _read_all(team, messages):
    conversation = _conversation_of(team)
    if conversation is not None:
        conversation.read_all(messages)


async def _read(team, stream):
    """Yields what a stream yields, and forwards it if it belongs to a conversation of the team."""
    conversation = _conversation_of(team)
    async for message in each_with(_CONVERSATION, _CONVERSATION.get(), stream):
        if conversation is not None:
            conversation.read(message)
        yield message


class _Conversation:
    """A conversation: starts and ends a run as a context manager, and forwards each of its messages once."""

    def __init__(self, team, events):
        self.team, self.events, self.run_id = team, events, uuid.uuid4().hex
        self._started, self._read, self._is_streaming, self._is_ended = time.time(), Bounded(), False, False

    def __enter__(self):
        self.events.forward(_start, self.run_id, self.events.agent, self.team)
        return self

    def __exit__(self, _type, error, _traceback):
        if error is None:
            self.end()
        elif not self._is_ended:
            self.events.forward(_raised, self.run_id, error)

    def end(self):
        """Ends the run, unless it has ended."""
        if not self._is_ended:
            self.events.put({"type": "TaskResult", "run_id": self.run_id})
        self._is_ended = True

    def read(self, message):
        """Forwards a message of a stream."""
        self.events.forward(self._message, message)

    def read_all(self, messages):
        """Forwards messages that no stream has shown, each at the time of its creation in this run."""
        for message in messages if isinstance(messages, (list, tuple)) else ():
            self.events.forward(self._message, message, self._started)

    def _message(self, message, started=None):
        """Returns a message as an event; `None` of one that was forwarded, and of the result of a run."""
        # The last item of an agent's stream holds its message.
        message = getattr(message, "chat_message", message)
        if not hasattr(message, "type") or message.id in self._read:
            return None
        self._read[message.id] = True
        # Of the parts of an answer, only the first is used.
        is_part, was_part = message.type == "ModelClientStreamingChunkEvent", self._is_streaming
        self._is_streaming = is_part
        if is_part and was_part:
            return None
        line = _message(self.run_id, message)
        if started is not None and hasattr(message, "created_at"):
            line["time"] = max(started, message.created_at.timestamp())
        return line


def _tap_log():
    """Forwards the log of model calls. What other handlers get of it does not change."""
    from autogen_core import EVENT_LOGGER_NAME

    log = logging.getLogger(EVENT_LOGGER_NAME)
    if not any(isinstance(each, _Log) for each in log.filters):
        log.addFilter(_Log(log))


class _Log(logging.Filter):
    """Lets a log create all records, and drops those below the level that it has for others, also one that is set later."""

    def __init__(self, log):
        super().__init__()
        self._log, self._set_level = log, log.setLevel
        log.setLevel = self.set_level
        self.set_level(log.level)

    def set_level(self, level):
        self._set_level(level)
        self._level = self._log.level
        self._set_level(1)

    def filter(self, record):
        conversation = _CONVERSATION.get()
        if conversation is not None:
            conversation.events.forward(_model_call, conversation.run_id, record.msg)
        return record.levelno >= (self._level or self._log.parent.getEffectiveLevel())


def _start(run_id, agent, team):
    return {"type": "conversation_start", "run_id": run_id, "initiator": agent or getattr(team, "name", None)}


def _raised(run_id, error):
    return {"type": "raised", "run_id": run_id, "error": type(error).__name__, "message": text_of(error)}


def _message(run_id, message):
    line = {"type": message.type, "run_id": run_id, "id": message.id, "source": message.source}
    if message.type == "HandoffMessage":
        line["target"] = message.target
    if message.type == "ToolCallRequestEvent":
        line["content"] = [{"id": call.id, "name": call.name, "arguments": arguments_of(call.arguments)} for call in message.content]
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
