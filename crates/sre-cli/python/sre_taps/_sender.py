"""Sends events to `sre serve` from a background thread."""
import atexit
import collections
import encodings.idna  # Imported by the first request otherwise: a fork in that moment would leave the import's lock held.
import functools
import ipaddress
import json
import logging
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from ._values import plain, text_of

LOG = logging.getLogger("sre_taps")
DEFAULT_URL = "http://127.0.0.1:4318"
# What waits until the service has accepted it. Further events are lost, and counted.
MAX_BYTES = 15_000_000
MAX_EVENTS = 100_000
# Of one request, and of its answer.
MAX_BATCH_BYTES = 1_000_000
MAX_ANSWER_BYTES = 1_000_000
# In seconds.
REQUEST_TIMEOUT = 10
FLUSH_TIMEOUT = 2
FIRST_RETRY, LAST_RETRY = 0.5, 30
# Statuses below 500 after which the same request may be accepted later.
TEMPORARY = (408, 425, 429)


class Sender:
    """Sends events of one format, so that the agent neither waits for the service nor fails with it."""

    def __init__(self, format, url=None, token=None, agent=None):
        self.format, self.before_flush = format, None
        self.agent = agent or os.environ.get("SRE_AGENT") or None
        base = url or os.environ.get("SRE_URL") or DEFAULT_URL
        base = base if "://" in base else f"http://{base}"
        self._token = (token or os.environ.get("SRE_TOKEN") or "").strip()
        self._url, self._invalid = f"{base.rstrip('/')}/v1/events/{format}", _why_invalid(base, self._token)
        without_proxy = [urllib.request.ProxyHandler({})] if not self._invalid and _is_loopback(base) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *without_proxy)
        self._reset()
        if hasattr(os, "register_at_fork"):
            # Threads do not outlive a fork, and what waits belongs to the parent.
            os.register_at_fork(after_in_child=self._reset)

    def __repr__(self):
        return f"Sender({self.format!r}, token={'***' if self._token else None})"

    def _reset(self):
        self._events, self._bytes, self._batch_events = collections.deque(), 0, MAX_EVENTS
        self._lost = self._lost_reported = 0
        self._logged, self._thread = set(), None
        self._changed, self._hurry = threading.Condition(), threading.Event()

    @property
    def lost(self):
        """The number of events lost in this process."""
        return self._lost

    @property
    def waiting(self):
        """The number of events that the service has not accepted yet."""
        return len(self._events)

    def forward(self, convert, *arguments, **fields):
        """Sends the event that `convert` returns, unless that is `None`. An exception counts as a lost event."""
        try:
            event = convert(*arguments, **fields)
            if event is not None:
                self.put(event)
        except Exception as error:
            self._lose(1, error)

    def put(self, event):
        """Adds an event to the queue. Does not wait, and does not raise."""
        try:
            line = json.dumps(plain({"time": time.time(), **event})).encode()
            with self._changed:
                if self._bytes + len(line) > MAX_BYTES or len(self._events) == MAX_EVENTS:
                    raise OverflowError("the queue is full")
                self._run()
                self._events.append(line)
                self._bytes += len(line)
                self._changed.notify_all()
        except Exception as error:
            self._lose(1, error)

    def flush(self, timeout=FLUSH_TIMEOUT):
        """Waits until all events are sent, for `timeout` seconds at most. Returns whether they are."""
        deadline = time.monotonic() + timeout
        try:
            if self.before_flush:
                self.before_flush(timeout)
            self._hurry.set()
            with self._changed:
                return self._changed.wait_for(lambda: not self._events, max(0, deadline - time.monotonic()))
        except Exception as error:
            self._log("flush failed", error)
            return False
        finally:
            self._hurry.clear()

    def _run(self):
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._send_batches, name="sre_taps", daemon=True)
            self._thread.start()

    def _send_batches(self):
        is_refused = False
        while True:
            self._hurry.wait(0.1)  # Collects a batch.
            with self._changed:
                self._changed.wait_for(lambda: self._events or (self._lost > self._lost_reported and not is_refused))
                batch, lost = self._next_batch(), self._lost - self._lost_reported
            code = self._send(b"\n".join(batch), lost)
            if code == 413 and len(batch) > 1:
                self._batch_events = len(batch) // 2
                continue
            is_refused = code is not None
            if is_refused and batch:
                self._lose(len(batch), code)
            with self._changed:
                for line in batch:
                    self._events.popleft()
                    self._bytes -= len(line)
                self._lost_reported += 0 if is_refused else lost
                self._changed.notify_all()

    def _next_batch(self):
        batch, size = [], 0
        for line in self._events:
            size += len(line) + 1
            if batch and (size > MAX_BATCH_BYTES or len(batch) == self._batch_events):
                break
            batch.append(line)
        return batch

    def _send(self, body, lost):
        """Sends a request until the service accepts it, and returns `None`; or why it refuses it for good."""
        if self._invalid:
            return self._invalid
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": uuid.uuid4().hex}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if lost:
            headers["Sre-Lost-Events"] = str(lost)
        delay = FIRST_RETRY
        while True:
            wait = delay
            try:
                request = urllib.request.Request(self._url, body, headers)
                with self._opener.open(request, timeout=REQUEST_TIMEOUT) as response:
                    return self._count_rejected(response)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in TEMPORARY:
                    return error.code
                wait, reason = max(delay, _retry_after(error)), f"HTTP status {error.code}"
            except ValueError as error:  # The URL is not one.
                return error
            except Exception as error:
                reason = error
            self._log("retrying", reason)
            # Several processes must not try again at the same moment.
            self._hurry.wait(wait * random.uniform(0.5, 1))
            if self._hurry.is_set():
                time.sleep(0.1)
            delay = min(delay * 2, LAST_RETRY)

    def _count_rejected(self, response):
        """Counts the events that the service could not read as lost. It has counted them itself."""
        try:
            answer = json.loads(response.read(MAX_ANSWER_BYTES))
            count, errors = answer.get("rejected") or 0, answer.get("errors") or [{}]
        except Exception:  # The answer is not that of the service, or breaks off; the events were accepted.
            return
        if count:
            with self._changed:
                self._lost_reported += count
            self._lose(count, f"rejected by the service: {errors[0].get('error')}")

    def _lose(self, count, reason):
        with self._changed:
            self._lost += count
        self._log("losing events", f"HTTP status {reason}" if isinstance(reason, int) else reason)

    def _log(self, what, reason):
        """Logs the first reason. The number of lost events is logged at exit."""
        if what not in self._logged:
            self._logged.add(what)
            warn("%s: %s", what, text_of(reason))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the token to another address."""

    def redirect_request(self, *_):
        return None


def _why_invalid(url, token):
    """Returns why neither can be used, without their text, which may be secret; `None` if they can."""
    try:
        has_credentials = "@" in urllib.parse.urlsplit(url).netloc
    except ValueError:
        return "the URL is invalid"
    if has_credentials:
        return "the URL has credentials, expected them as `token` or SRE_TOKEN"
    return None if token.isascii() and token.isprintable() else "the token has characters that no HTTP header may have"


def _retry_after(error):
    try:
        return min(float(error.headers.get("Retry-After") or 0), 60)
    except ValueError:
        return 0


def _is_loopback(url):
    """Returns whether a URL is of this machine, which no proxy reaches."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn(message, *arguments):
    """Logs a warning. An exception of a handler does not reach the agent."""
    try:
        LOG.warning(message, *arguments)
    except Exception:
        pass


SENDERS = []


@functools.lru_cache(maxsize=None)
def sender(format, url=None, token=None, agent=None):
    """Returns the sender of these settings. Those that are missing are read from `SRE_URL`, `SRE_TOKEN` and `SRE_AGENT`."""
    created = Sender(format, url, token, agent)
    SENDERS.append(created)
    return created


def install_once(install):
    """Returns `install`, which takes a sender, so that a process runs it once. Another sender later is ignored with a warning."""
    installed, lock = [], threading.Lock()

    @functools.wraps(install)
    def once(events):
        with lock:
            if not installed:
                install(events)
                installed.append(events)
            elif installed[0] is not events:
                warn("%s: the tap is installed already; other settings are ignored", events.format)

    return once


def flush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Waits until all taps have sent their events, for `timeout` seconds at most. Returns whether they have.

    A process that is frozen between requests, as in AWS Lambda, calls it at the end of each. At exit it is called by itself."""
    deadline = time.monotonic() + timeout
    return all([each.flush(max(0, deadline - time.monotonic())) for each in SENDERS])


def lost() -> int:
    """Returns how many events all taps of this process have lost."""
    return sum(each.lost for each in SENDERS)


@atexit.register
def _close():
    flush()
    count = lost() + sum(each.waiting for each in SENDERS)
    if count:
        warn("%d events lost", count)


def error_of(error):
    """Returns an exception as the text of an event."""
    message = text_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
