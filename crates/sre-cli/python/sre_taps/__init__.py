"""Sends what agents do to `sre serve`, the live service of agent-sre.

A tap forwards the events of a framework. Each is one line in the agent:

    import sre_taps.langgraph
    sre_taps.langgraph.tap(agent="support")

and so for `langchain`, `openai_agents`, `llamaindex` and `crewai`. `autogen`, `semantic_kernel` and `dify` take what they tap as
an argument. An agent without a framework uses `task`, `tool_call` and `llm_call` of this module.

`url`, `token` and `agent` are arguments of each, or the environment variables `SRE_URL` (http://127.0.0.1:4318 by default;
`http://` may be omitted), `SRE_TOKEN` and `SRE_AGENT`. Prompts, answers and the results of tools stay in the process; of what a
tool is called with, a framework's tap sends the arguments, shortened beyond 64 KiB, and the service keeps a hash.

Events are sent by a background thread: a tap neither fails nor delays the agent. While the service is away, up to 15 MB or 100,000
events wait; `lost` counts those beyond that, which the service counts, too, and those that it rejects.
"""
from ._sender import flush, lost
from ._tasks import llm_call, task, tool_call

__all__ = ["flush", "llm_call", "lost", "task", "tool_call"]
