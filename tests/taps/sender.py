"""Puts events into a sender of the taps: `wait` until the service is back, or `fill` the queue."""
import os, sys
from sre_taps._sender import sender

sender = sender("langgraph", token="secret")

def task(run_id):
    for event in ["on_chain_start", "on_chain_end"]:
        sender.put({"event": event, "run_id": run_id, "name": "support", "parent_ids": [], "data": {}})

def lost():
    raise ValueError("no event")

def wait():
    while not sender.flush():
        pass

if sys.argv[1] == "wait":
    task("1")
    child = os.fork()
    if child == 0:
        task("2")
        wait()
        os._exit(0)
    print("queued", flush=True)
    sender.forward(lost)
    wait()
    sys.exit(os.waitpid(child, 0)[1])

sender.forward(lost)
for _ in range(20):
    sender.put({"event": "large", "data": "x" * 1_000_000})
print(sender.waiting, "of 20 events wait;", sender)
