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

def answer(prompt):
    async def run():
        service = OpenAIChatCompletion(ai_model_id=scenario.MODEL, async_client=AsyncOpenAI(**scenario.CLIENT))
        agent = ChatCompletionAgent(service=service, name="support", instructions="Help.", plugins=[Orders()])
        if scenario.IS_TAPPED:
            sre_taps.semantic_kernel.tap(agent)
        # Streamed and whole answers in turn.
        if prompt == "#tool":
            return "".join([str(part) async for part in agent.invoke_stream(prompt)])
        return str(await agent.get_response(prompt))

    return asyncio.run(run())

scenario.run(answer)
