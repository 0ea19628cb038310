"""An agent of LlamaIndex."""
import asyncio
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike
import scenario
import sre_taps.llamaindex

if scenario.IS_TAPPED:
    sre_taps.llamaindex.tap(agent="support")

client = {"api_base": scenario.CLIENT["base_url"], "api_key": "none", "max_retries": scenario.CLIENT["max_retries"]}
model = OpenAILike(model=scenario.MODEL, is_chat_model=True, is_function_calling_model=True, **client)

async def answer(prompt):
    return await FunctionAgent(tools=[scenario.lookup], llm=model, streaming=scenario.is_streamed(prompt)).run(prompt)

asyncio.run(scenario.run_async(answer))
