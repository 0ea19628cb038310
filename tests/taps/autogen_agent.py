"""A team of AutoGen."""
import asyncio
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient
import scenario
import sre_taps.autogen

def answer(prompt):
    async def run():
        model = OpenAIChatCompletionClient(model=scenario.MODEL, **scenario.CLIENT)
        agent = AssistantAgent("assistant", model, tools=[scenario.lookup], reflect_on_tool_use=True)
        # A team and an agent in turn.
        team = RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2)) if "#tool" in prompt else agent
        if scenario.IS_TAPPED:
            sre_taps.autogen.tap(team, agent="support")
        return (await team.run(task=prompt)).messages[-1].content

    return asyncio.run(run())

scenario.run(answer)
