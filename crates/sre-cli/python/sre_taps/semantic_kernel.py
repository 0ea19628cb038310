"""Forwards the function calls and model calls of Semantic Kernel."""
import contextlib
import contextvars
import functools
import uuid
from typing import Optional, TypeVar

from ._context import each_with
from ._sender import sender
from ._values import arguments_of, text_of

T = TypeVar("T")
# The tap of the agent that answers.
_TAP = contextvars.ContextVar("sre_taps_semantic_kernel_tap", default=None)
_RUN = contextvars.ContextVar("sre_taps_semantic_kernel_run", default=None)


def tap(target: T, agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> T:
    """Forwards what a kernel, or the kernel of an agent, does with the services that it has now; returns `target`.

    The answer of a chat service to a chat, or of a prompt function, is a task of `agent`, or of an agent with the name of
    `target`; the functions that it calls are tool calls. All model calls are forwarded with their tokens. Agents may share a
    kernel or a service. A later call for the same agent or kernel taps new services, and keeps the first settings."""
    from semantic_kernel.filters import FilterTypes

    kernel = getattr(target, "kernel", target)
    created = _Tap(sender("semantic-kernel", url, token, agent), getattr(target, "name", None) or "kernel")
    if hasattr(target, "get_response") and _is_new(target):
        created.wrap_agent(target)
    if _tap_of(kernel) is None:
        kernel.add_filter(FilterTypes.FUNCTION_INVOCATION, created.function)
    for service in kernel.services.values():
        if hasattr(service, "_inner_get_chat_message_contents") and _is_new(service):
            created.wrap_service(service)
    return target


def _is_new(target):
    """Marks an agent or a service, and returns whether it had no mark."""
    is_new = not getattr(target, "_sre_taps", False)
    _replace(target, "_sre_taps", True)
    return is_new


def _replace(target, name, value):
    # Agents and services are models of pydantic, which refuse attributes that are no fields.
    object.__setattr__(target, name, value)


def _tap_of(kernel):
    """Returns the tap whose filter a kernel has."""
    filters = [getattr(each, "__self__", None) for _, each in getattr(kernel, "function_invocation_filters", ())]
    return next((each for each in filters if isinstance(each, _Tap)), None)


class _Run:
    def __init__(self, events):
        self.events, self.id = events, uuid.uuid4().hex

    def put(self, event, **fields):
        self.events.put({"event": event, "run_id": self.id, **fields})

    def put_error(self, event, error, **fields):
        self.put(event, error=type(error).__name__, message=text_of(error), **fields)


class _Tap:
    def __init__(self, events, name):
        self.events, self.name = events, events.agent or name

    @contextlib.contextmanager
    def run(self):
        """Forwards the start and the end of a run."""
        run = _Run(self.events)
        run.put("kernel_start", kernel=self.name)
        try:
            yield run
        except BaseException as error:
            run.put_error("kernel_end", error, success=False)
            raise
        run.put("kernel_end", success=True)

    async def answer(self, call):
        """Awaits a call, which is a run unless it is inside one."""
        if _RUN.get() is not None:
            return await call()
        with self.run() as run:
            token = _RUN.set(run)
            try:
                return await call()
            finally:
                _RUN.reset(token)

    async def stream(self, call):
        """Yields the parts of an answer, which is a run unless it is inside one."""
        if _RUN.get() is not None:
            async for part in call():
                yield part
            return
        with self.run() as run:
            async for part in each_with(_RUN, run, call()):
                yield part

    async def function(self, context, next):
        """The filter of function calls."""
        run = _RUN.get()
        if run is None:
            is_prompt = type(context.function).__name__ == "KernelFunctionFromPrompt" and not context.is_streaming
            return await ((_TAP.get() or self).answer(lambda: next(context)) if is_prompt else next(context))
        function = {"plugin": context.function.plugin_name, "function": context.function.name}
        run.put("function_invoking", **function, arguments=arguments_of(context.arguments or {}))
        try:
            await next(context)
        except BaseException as error:
            run.put_error("function_failed", error, **function)
            raise
        run.put("function_invoked", **function)

    def wrap_agent(self, agent):
        """Replaces the methods of an agent that answer, so that runs inside them have its name."""
        response = agent.get_response

        async def get_response(*arguments, **fields):
            token = _TAP.set(self)
            try:
                return await response(*arguments, **fields)
            finally:
                _TAP.reset(token)

        _replace(agent, "get_response", get_response)
        for name in ("invoke", "invoke_stream"):
            _replace(agent, name, functools.partial(self._each, getattr(agent, name)))

    def _each(self, call, *arguments, **fields):
        return each_with(_TAP, self, call(*arguments, **fields))

    def wrap_service(self, service):
        """Replaces the methods of a chat service that answer, and those that make one model call."""
        answer, stream = service.get_chat_message_contents, service.get_streaming_chat_message_contents
        call, stream_call = service._inner_get_chat_message_contents, service._inner_get_streaming_chat_message_contents

        def tap_of(fields):
            return _TAP.get() or _tap_of(fields.get("kernel")) or self

        async def get(*arguments, **fields):
            return await tap_of(fields).answer(lambda: answer(*arguments, **fields))

        def get_streaming(*arguments, **fields):
            return tap_of(fields).stream(lambda: stream(*arguments, **fields))

        async def inner(*arguments, **fields):
            contents = await call(*arguments, **fields)
            _put_model_call(service, _usage(contents))
            return contents

        async def inner_streaming(*arguments, **fields):
            usage = None
            async for contents in stream_call(*arguments, **fields):
                usage = _usage(contents) or usage
                yield contents
            _put_model_call(service, usage)

        _replace(service, "get_chat_message_contents", get)
        _replace(service, "get_streaming_chat_message_contents", get_streaming)
        _replace(service, "_inner_get_chat_message_contents", inner)
        _replace(service, "_inner_get_streaming_chat_message_contents", inner_streaming)


def _usage(contents):
    metadata = [getattr(content, "metadata", None) for content in contents or ()]
    found = [each.get("usage") for each in metadata if isinstance(each, dict)]
    return next((usage for usage in found if usage is not None), None)


def _put_model_call(service, usage):
    run = _RUN.get()
    if run is not None:
        run.put("model_call", model=service.ai_model_id, usage=usage)
