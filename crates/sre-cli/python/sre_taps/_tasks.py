"""Tasks, tool calls and model calls of agents without a framework."""
import contextvars
import hashlib
import json
import os
import time
from decimal import Decimal
from typing import Any, Optional, TypeVar, Union

from ._sender import error_of, sender
from ._values import arguments_of, text_of

T = TypeVar("T")
_CURRENT = contextvars.ContextVar("sre_taps_span", default=None)


class _Span:
    """What happens inside a `with` block. Blocks nest, also across `await`."""

    def __init__(self):
        self.error = self._started = None

    def fail(self, error: Any) -> None:
        """Marks it as failed without an exception."""
        self.error = text_of(error)

    def __enter__(self: T) -> T:
        outer = self._outer = _CURRENT.get()
        self.trace_id, self.span_id = outer.trace_id if outer else os.urandom(16).hex(), os.urandom(8).hex()
        self._ids = {"trace_id": self.trace_id, "span_id": self.span_id}
        if outer:
            self._ids["parent_span_id"] = outer.span_id
        self._begin(outer)
        self._started = time.monotonic()
        _CURRENT.set(self)
        return self

    def __exit__(self, _type, error, _traceback):
        _CURRENT.set(self._outer)
        if error is not None:
            self.error = error_of(error)
        end = {"success": self.error is None, "duration_ms": (time.monotonic() - self._started) * 1000}
        if self.error is not None:
            end["error"] = self.error
        self._end(end)

    def _put(self, event, **fields):
        of_task = {"agent": self.agent, "task": self.task} if self.task else {"agent": self.agent}
        self.sender.put({"event": event, **of_task, **self._ids, **fields})


class task(_Span):
    """A task of an agent: `with task(agent="support"): …`. It fails if the block raises, or if `fail` was called.

    A task inside another one is a task of its own in the same trace, as of an agent that another one calls."""

    def __init__(
        self, agent: Optional[str] = None, name: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None
    ):
        super().__init__()
        self.sender = sender("sre", url, token)
        self.agent, self._name = agent or self.sender.agent or "default", name

    def _begin(self, _outer):
        self.task = self.span_id
        self._put("task_started", name=self._name)

    def _end(self, end):
        self._put("task_finished", **end)


class _Call(_Span):
    def _begin(self, outer):
        # A call outside of a task belongs to the agent alone.
        self.sender = outer.sender if outer else sender("sre")
        self.agent, self.task = (outer.agent, outer.task) if outer else (self.sender.agent or "default", None)

    def _end(self, end):
        self._put(self._event, **self._fields, **end)


class tool_call(_Call):
    """A call of a tool: `with tool_call("search", {"q": "order 7"}): …`. It fails if the block raises, or if `fail` was called.

    Only a hash of the arguments is sent, by which repeated calls are found. A call that is repeated after a failure has the
    `operation_id` of the first and counts its `attempt` from 1."""

    _event = "tool_call"

    def __init__(self, tool: str, arguments: Any = None, attempt: Optional[int] = None, operation_id: Optional[str] = None):
        super().__init__()
        self._fields = {"tool": text_of(tool or "unknown"), "attempt": attempt, "operation_id": operation_id}
        if arguments is not None:
            self._fields["arguments_hash"] = _hash_of(arguments)


def _hash_of(arguments):
    canonical = json.dumps(arguments_of(arguments), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class llm_call(_Call):
    """A model call: `with llm_call("gpt-5-mini") as call: …; call.usage(input_tokens=50, output_tokens=10)`.

    It fails if the block raises, or if `fail` was called. Without `cost_usd`, the service computes the cost from the tokens."""

    _event = "llm_call"

    def __init__(
        self, model: str, provider: Optional[str] = None, attempt: Optional[int] = None, operation_id: Optional[str] = None
    ):
        super().__init__()
        self._fields = {"model": model, "provider": provider, "attempt": attempt, "operation_id": operation_id}

    def usage(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_input_tokens: int = 0,
        cost_usd: Union[float, Decimal, str, None] = None,
    ) -> None:
        """Sets the tokens of the call, of which the cached ones are part of the input, and its cost in dollars.

        `None` is 0 tokens, and a cost that is no number is left out."""
        tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_input_tokens": cached_input_tokens}
        self._fields.update({name: 0 if count is None else count for name, count in tokens.items()})
        cost = text_of(cost_usd)
        if cost[:1].isdigit():
            self._fields["cost_usd"] = cost

    def first_token(self) -> None:
        """Marks the arrival of the first token of a streamed answer."""
        if self._started is not None:
            self._fields.setdefault("first_token_ms", (time.monotonic() - self._started) * 1000)
