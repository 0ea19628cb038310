import record
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from strands import Agent, tool
from strands.models.openai import OpenAIModel


def make(base_url, lookup):
    record.provider()
    if record.scenario == "client_retry":  # One span a request, below that of the call.
        HTTPXClientInstrumentor().instrument()
    model = OpenAIModel(client_args={"base_url": base_url, "api_key": "none"}, model_id="gpt-4o-mini")

    async def answer(prompt):
        agent = Agent(model=model, name="support", tools=[tool(lookup)], callback_handler=None)
        return str(await agent.invoke_async(prompt))

    return answer
