"""Context variables across the steps of an asynchronous generator."""


async def each_with(variable, value, stream):
    """Yields what a stream yields, with `variable` set inside the stream and not in the code that reads it."""
    stream = stream.__aiter__()
    try:
        while True:
            token = variable.set(value)
            try:
                item = await stream.__anext__()
            except StopAsyncIteration:
                return
            finally:
                variable.reset(token)
            yield item
    finally:
        close = getattr(stream, "aclose", None)
        if close:
            await close()
