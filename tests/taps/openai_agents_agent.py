"""An agent of the OpenAI Agents SDK."""
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, RunHooks, Runner, function_tool, set_trace_processors
from openai import AsyncOpenAI
import scenario
import sre_taps.openai_agents

set_trace_processors([])
if scenario.IS_TAPPED:
    sre_taps.openai_agents.tap()

model = OpenAIChatCompletionsModel(model=scenario.MODEL, openai_client=AsyncOpenAI(**scenario.CLIENT))
support = Agent(name="support", instructions="Help.", model=model, tools=[function_tool(scenario.lookup)])

def answer(prompt):
    return Runner.run_sync(support, prompt, run_config=RunConfig(workflow_name="support")).final_output

scenario.run(answer)

# An exception that is none of the SDK's own, while another one is handled.
class Hooks(RunHooks):
    async def on_agent_start(self, context, agent):
        raise RuntimeError("a bug")

for hooks in [None, Hooks()]:
    try:
        raise ValueError
    except ValueError:
        try:
            print(Runner.run_sync(support, "hello", hooks=hooks, run_config=RunConfig(workflow_name="support")).final_output)
        except RuntimeError as error:
            print("failed:", error)
