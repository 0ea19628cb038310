import record
from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.run.base import RunStatus
from openinference.instrumentation.agno import AgnoInstrumentor


def make(base_url, lookup):
    AgnoInstrumentor().instrument(tracer_provider=record.provider())
    agent = Agent(name="support", model=OpenAIChat("gpt-4o-mini", base_url=base_url, api_key="none"), tools=[lookup])

    async def answer(prompt):
        run = await agent.arun(prompt)
        if run.status == RunStatus.error:  # The run does not raise.
            raise RuntimeError(run.content)
        return run.content

    return answer
