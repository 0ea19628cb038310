"""Runs a LangGraph graph, and forwards its events to `sre serve`."""
import atexit, contextlib, functools, json, os, sys, threading, time, urllib.request, uuid

URL = "http://127.0.0.1:4318/v1/events/langgraph"

class Sender:
    """Sends events from a thread of its own, so that the agent neither waits for `sre serve` nor fails with it.

    Up to 15 MB of events wait until the service has accepted them. Further ones are lost, counted and reported on stderr."""

    def __init__(self, url):
        self.url = url
        self.start()
        if hasattr(os, "register_at_fork"):  # Threads do not outlive a fork.
            os.register_at_fork(after_in_child=self.start)

    def start(self):
        self.lines, self.bytes, self.lost, self.reported, self.changed = [], 0, 0, set(), threading.Condition()
        threading.Thread(target=self.forward, daemon=True).start()

    def put(self, event):
        try:
            plain = lambda value: getattr(value, "model_dump", lambda: str(value))()
            line = json.dumps({"time": time.time(), **event}, default=plain, skipkeys=True).encode()
            with self.changed:
                if self.bytes + len(line) > 15_000_000:
                    raise OverflowError("the queue is full")
                self.lines.append(line)
                self.bytes += len(line)
                self.changed.notify_all()
        except Exception as error:
            self.lose(1, error)

    def forward(self):
        while True:
            time.sleep(0.1)  # Collects a batch.
            with self.changed:
                self.changed.wait_for(lambda: self.lines)
                batch = self.lines[:]
            self.send(batch, {"Idempotency-Key": uuid.uuid4().hex})
            with self.changed:
                del self.lines[:len(batch)]
                self.bytes = sum(map(len, self.lines))
                self.changed.notify_all()

    def send(self, batch, headers):
        while True:
            try:
                request = urllib.request.Request(self.url, b"\n".join(batch), headers)
                return urllib.request.urlopen(request, timeout=10).close()
            except Exception as error:
                if getattr(error, "code", 500) in (400, 401, 403, 404, 413):  # Trying again does not help.
                    return self.lose(len(batch), error)
                self.report("retrying", error)
                time.sleep(1)

    def lose(self, count, reason):
        with self.changed:
            self.lost += count
        self.report("losing events", reason)

    def report(self, what, reason):
        """Prints the first reason. The number of lost events is printed at exit."""
        with contextlib.suppress(Exception):
            if what not in self.reported:
                self.reported.add(what)
                print(f"sre serve: {what}: {reason}", file=sys.stderr)

    def flush(self):
        """Waits until all events are sent, for 2 seconds at most."""
        with self.changed:
            self.changed.wait_for(lambda: not self.lines, timeout=2)
            return not self.lines

    def close(self):
        self.flush()
        if lost := self.lost + len(self.lines):
            print(f"sre serve: {lost} events lost", file=sys.stderr)

@functools.cache
def sender(url):
    created = Sender(url)
    atexit.register(created.close)
    return created

async def run(graph, inp, url=URL):
    put, run_id, output = sender(url).put, None, None
    try:
        async for event in graph.astream_events(inp, version="v2"):
            put(event)
            run_id, output = run_id or event["run_id"], event["data"].get("output", output)
        return output
    except Exception as error:
        # LangGraph reports nothing when a graph raises.
        put({"event": "raised", "run_id": run_id, "error": type(error).__name__, "message": str(error)})
        raise
