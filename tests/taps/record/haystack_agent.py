import record
from haystack import tracing
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer

BLOCKING = True


def make(base_url, lookup):
    tracing.enable_tracing(OpenTelemetryTracer(record.provider().get_tracer("haystack")))
    generator = OpenAIChatGenerator(api_key=Secret.from_token("none"), model="gpt-4o-mini", api_base_url=base_url)
    agent = Agent(chat_generator=generator, tools=[create_tool_from_function(lookup)])

    def answer(prompt):
        return agent.run([ChatMessage.from_user(prompt)])["messages"][-1].text

    return answer
