"""An agent of Semantic Kernel."""
import asyncio
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function
import scenario
import sre_taps.semantic_kernel

class Orders:
    @kernel_function(name="lookup", description="Looks an order up.")
    def lookup(self, q: str, explode: bool = False) -> str:
        return scenario.lookup(q, explode)

service = OpenAIChatCompletion(ai_model_id=scenario.MODEL, async_client=AsyncOpenAI(**scenario.CLIENT))

async def answer(prompt):
    agent = ChatCompletionAgent(service=service, name="support", instructions="Help.", plugins=[Orders()])
    if scenario.IS_TAPPED:
        sre_taps.semantic_kernel.tap(agent)
    # Streamed and whole answers with a tool, too.
    if scenario.is_streamed(prompt) or prompt == "#tool":
        return "".join([str(part) async for part in agent.invoke_stream(prompt)])
    return str(await agent.get_response(prompt))

asyncio.run(scenario.run_async(answer))
