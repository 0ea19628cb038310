"""Values of a framework as JSON, in bounded time and without exceptions."""
import hashlib
import math

# Of the arguments of a tool, and of a whole event. Each value counts as 8 bytes besides its text.
MAX_ARGUMENTS = 64 << 10
MAX_EVENT = 16 << 20
_MAX_DEPTH = 60


def plain(value, limit=MAX_EVENT):
    """Returns `value` as what JSON can hold. Numbers that are not finite become `None`, and unpaired surrogates `?`.

    Beyond `limit` bytes, a text is replaced by its hash, and a list or dictionary is cut. Equal values stay equal."""
    return _Plain(limit).of(value, 0)


def arguments_of(value):
    """Returns the arguments of a tool, shortened to about 64 KiB; of those that cannot be read, the name of their class."""
    try:
        return plain(value, MAX_ARGUMENTS)
    except Exception:
        return type(value).__name__


def text_of(value):
    """Returns `str(value)`, or the name of its class if that raises."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__


class _Plain:
    def __init__(self, limit):
        self.left = limit

    def of(self, value, depth):
        self.left -= 8
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return value if value.bit_length() <= 1024 else self.text(hex(value))
        if isinstance(value, float):
            return _number(value)
        if depth == _MAX_DEPTH:
            return type(value).__name__
        if isinstance(value, dict):
            keys = (key for key in list(value) if self.left > 0)
            return {self.text(text_of(key)): self.of(value.get(key), depth + 1) for key in keys}
        if isinstance(value, (set, frozenset)):
            value = sorted(value, key=text_of)
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value if self.left > 0]
        dumped = _dumped(value)
        return self.text(text_of(value)) if dumped is None else self.of(dumped, depth + 1)

    def text(self, text):
        self.left -= len(text)
        if self.left < 0 and len(text) > 64:
            return "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        return text if text.isascii() else text.encode(errors="replace").decode()


def _number(number):
    # The service reads numbers of tokens as integers.
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else float(number)


def _dumped(value):
    """Returns a model of pydantic, or of the same interface, as a dictionary; `None` of another value."""
    dump = getattr(value, "model_dump", None)
    for options in ({"mode": "json"}, {}) if callable(dump) else ():
        try:
            return dump(**options)
        except Exception:
            continue
    return None


class Bounded(dict):
    """A dictionary that drops its oldest key beyond `limit`, for calls whose end is never reported."""

    def __init__(self, limit=10_000):
        super().__init__()
        self.limit = limit

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if len(self) > self.limit:
            self.pop(next(iter(self)), None)
