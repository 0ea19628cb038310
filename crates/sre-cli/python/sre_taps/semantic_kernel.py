"""Forwards the function calls and model calls of Semantic Kernel."""
import contextlib
import contextvars
import uuid

from ._context import each_with
from ._sender import sender

_RUN = contextvars.ContextVar("sre_taps_semantic_kernel_run", default=None)


def tap(target, agent=None, url=None, token=None):
    """Forwards what a kernel, or the kernel of an agent, does with the services that it has now; returns `target`.

    The answer of a chat service to a chat, or of a prompt function, is a task of `agent`, or of an agent with the name of
    `target`; the functions that it calls are tool calls. All model calls are forwarded with their tokens."""
    from semantic_kernel.filters import FilterTypes

    kernel = getattr(target, "kernel", target)
    runs = _Runs(sender("semantic-kernel", url, token, agent), getattr(target, "name", None) or "kernel")
    kernel.add_filter(FilterTypes.FUNCTION_INVOCATION, runs.function)
    for service in kernel.services.values():
        runs.wrap(service)
    return target


class _Runs:
    def __init__(self, events, name):
        self.events, self.name = events, events.agent or name

    def put(self, event, run_id, **fields):
        self.events.put({"event": event, "run_id": run_id, **fields})

    @contextlib.contextmanager
    def run(self, run_id):
        """Forwards the start and the end of a run."""
        self.put("kernel_start", run_id, kernel=self.name)
        try:
            yield
        except BaseException as error:
            self.put("kernel_end", run_id, success=False, error=type(error).__name__, message=str(error))
            raise
        self.put("kernel_end", run_id, success=True)

    async def answer(self, call):
        """Awaits a call, which is a run unless it is inside one."""
        if _RUN.get() is not None:
            return await call()
        run_id = uuid.uuid4().hex
        token = _RUN.set(run_id)
        try:
            with self.run(run_id):
                return await call()
        finally:
            _RUN.reset(token)

    async def stream(self, call):
        """Yields the parts of an answer, which is a run unless it is inside one."""
        if _RUN.get() is not None:
            async for part in call():
                yield part
            return
        run_id = uuid.uuid4().hex
        with self.run(run_id):
            async for part in each_with(_RUN, run_id, call()):
                yield part

    async def function(self, context, next):
        """The filter of function calls."""
        run_id = _RUN.get()
        if run_id is None:
            is_prompt = type(context.function).__name__ == "KernelFunctionFromPrompt" and not context.is_streaming
            return await (self.answer(lambda: next(context)) if is_prompt else next(context))
        function = {"plugin": context.function.plugin_name, "function": context.function.name}
        self.put("function_invoking", run_id, **function, arguments=dict(context.arguments or {}))
        try:
            await next(context)
        except BaseException as error:
            self.put("function_failed", run_id, **function, error=type(error).__name__, message=str(error))
            raise
        self.put("function_invoked", run_id, **function)

    def wrap(self, service):
        """Replaces the methods of a chat service that answer, and those that make one model call."""
        answer = getattr(service, "get_chat_message_contents", None)
        stream = getattr(service, "get_streaming_chat_message_contents", None)
        if answer is None or stream is None:
            return
        call, stream_call = service._inner_get_chat_message_contents, service._inner_get_streaming_chat_message_contents

        async def get(*arguments, **fields):
            return await self.answer(lambda: answer(*arguments, **fields))

        def get_streaming(*arguments, **fields):
            return self.stream(lambda: stream(*arguments, **fields))

        async def inner(*arguments, **fields):
            contents = await call(*arguments, **fields)
            self.events.forward(_model_call, _RUN.get(), service, _usage(contents))
            return contents

        async def inner_streaming(*arguments, **fields):
            usage = None
            async for contents in stream_call(*arguments, **fields):
                usage = _usage(contents) or usage
                yield contents
            self.events.forward(_model_call, _RUN.get(), service, usage)

        # Services are models of pydantic, which refuse attributes that are no fields.
        object.__setattr__(service, "get_chat_message_contents", get)
        object.__setattr__(service, "get_streaming_chat_message_contents", get_streaming)
        object.__setattr__(service, "_inner_get_chat_message_contents", inner)
        object.__setattr__(service, "_inner_get_streaming_chat_message_contents", inner_streaming)


def _usage(contents):
    found = [(getattr(content, "metadata", None) or {}).get("usage") for content in contents]
    return next((usage for usage in found if usage), None)


def _model_call(run_id, service, usage):
    return run_id and {"event": "model_call", "run_id": run_id, "model": service.ai_model_id, "usage": usage}
