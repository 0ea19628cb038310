import record
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient


def make(base_url, lookup):
    record.provider()
    enable_instrumentation()
    client = OpenAIChatCompletionClient(model="gpt-4o-mini", base_url=base_url, api_key="none")
    agent = client.as_agent(name="support", tools=[lookup])

    async def answer(prompt):
        return (await agent.run(prompt)).text

    return answer
