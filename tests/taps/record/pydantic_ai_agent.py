import functools

import record
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SCENARIOS = record.SCENARIOS | {"streamed_failure": ["How are you?", "#fail How are you?"]}


def make(base_url, lookup):
    settings = InstrumentationSettings(tracer_provider=record.provider(), include_content=True)
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(base_url=base_url, api_key="none"))

    @functools.wraps(lookup)
    def tool(q):
        try:
            return lookup(q)
        except ValueError as error:  # Any other exception ends the run.
            raise ModelRetry(str(error)) from error

    agent = Agent(model, name="support", tools=[tool])
    agent.instrument = settings

    async def answer(prompt):
        return (await agent.run(prompt)).output

    async def answer_streamed(prompt):
        async with agent.run_stream(prompt) as result:
            return await result.get_output()

    return answer_streamed if record.scenario == "streamed_failure" else answer
