"""Forwards the events of CrewAI's event bus."""
from typing import Optional

from ._sender import install_once, sender
from ._values import Bounded, arguments_of

_EVENTS = (
    "CrewKickoffStartedEvent CrewKickoffCompletedEvent CrewKickoffFailedEvent TaskStartedEvent TaskCompletedEvent TaskFailedEvent "
    "LLMCallStartedEvent LLMCallCompletedEvent LLMCallFailedEvent LLMStreamChunkEvent ToolUsageStartedEvent "
    "ToolUsageFinishedEvent ToolUsageErrorEvent ToolFailureDetectedEvent LLMGuardrailCompletedEvent"
).split()
_FIELDS = (
    "type event_id parent_event_id started_event_id task_id task_name agent_role crew_name call_id model tool_name tool_args "
    "success usage error failure"
).split()


def tap(agent: Optional[str] = None, url: Optional[str] = None, token: Optional[str] = None) -> None:
    """Adds handlers to the event bus. A kickoff of a crew is a task of `agent`, or of an agent with the name of the crew.

    A process installs it once: a later call with other settings is ignored with a warning."""
    _install(sender("crewai", url, token, agent))


@install_once
def _install(events):
    import crewai.events
    from crewai.events import crewai_event_bus

    streamed = Bounded()

    # The bus runs asynchronous handlers in order, and synchronous ones in a pool of threads.
    async def handle(source, event):
        events.forward(_line, event, events.agent, streamed)

    for name in _EVENTS:
        kind = getattr(crewai.events, name, None)
        if kind is not None:  # Older versions lack some.
            crewai_event_bus.on(kind)(handle)
    events.before_flush = getattr(crewai_event_bus, "flush", None)


def _line(event, agent, streamed):
    line = {name: getattr(event, name, None) for name in _FIELDS}
    line["tool_args"] = arguments_of(line["tool_args"])
    if line["type"] == "llm_stream_chunk":
        # Only the first part of an answer is used.
        if line["call_id"] in streamed:
            return None
        streamed[line["call_id"]] = True
    elif line["type"] in ("llm_call_completed", "llm_call_failed"):
        streamed.pop(line["call_id"], None)
    if agent and line["type"] == "crew_kickoff_started":
        line["agent"] = agent
    line["time"] = event.timestamp.timestamp()
    return {name: value for name, value in line.items() if value is not None}
