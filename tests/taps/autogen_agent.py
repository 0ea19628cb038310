"""A team of AutoGen."""
import asyncio
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_ext.models.openai import OpenAIChatCompletionClient
import scenario
import sre_taps.autogen

model = OpenAIChatCompletionClient(model=scenario.MODEL, **scenario.CLIENT)

async def answer(prompt):
    is_streamed = scenario.is_streamed(prompt)
    agent = AssistantAgent("assistant", model, tools=[scenario.lookup], max_tool_iterations=5, model_client_stream=is_streamed)
    # A team and an agent in turn.
    team = RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2)) if "#tool" in prompt else agent
    return await run(team, prompt)

async def run(team, prompt):
    if scenario.IS_TAPPED:
        sre_taps.autogen.tap(team, agent="support")
    return (await team.run(task=prompt)).messages[-1].content

async def main():
    await scenario.run_async(answer)
    # A handoff, which is the only tool of its agent.
    agents = [AssistantAgent("triage", model, handoffs=["refunds"]), AssistantAgent("refunds", model)]
    print(await run(Swarm(agents, termination_condition=TextMentionTermination("well")), "#tool"))

asyncio.run(main())
