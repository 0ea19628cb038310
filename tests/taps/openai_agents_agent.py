"""An agent of the OpenAI Agents SDK: four tasks, one with a tool, one whose model fails."""
import asyncio, os
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool, set_trace_processors
from openai import AsyncOpenAI
from openai_agents_tap import SreProcessor

set_trace_processors([SreProcessor(os.environ["SRE_URL"])] if "SRE_URL" in os.environ else [])

@function_tool
def lookup(q: str) -> str:
    """Looks an order up."""
    return f"order {q} is on its way"

client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="none", max_retries=0)
model = OpenAIChatCompletionsModel(model="gpt-4o-mini", openai_client=client)
support = Agent(name="support", instructions="Help.", model=model, tools=[lookup])

async def main():
    for prompt in ["hello", "#tool", "hello again", "#fail"]:
        try:
            print((await Runner.run(support, prompt, run_config=RunConfig(workflow_name="support"))).final_output)
        except Exception as error:
            print("failed:", error)

asyncio.run(main())
