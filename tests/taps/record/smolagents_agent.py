import record
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

BLOCKING = True
SCENARIOS = record.SCENARIOS | {"failure_in_own_span": ["#tool How is order 1?", "#fail How are you?"]}


def make(base_url, lookup):
    provider = record.provider()
    SmolagentsInstrumentor().instrument(tracer_provider=provider)
    model = OpenAIServerModel("gpt-4o-mini", api_base=base_url, api_key="none")

    def answer(prompt):
        return ToolCallingAgent([tool(lookup)], model, name="support", description="Supports.").run(prompt)

    def answer_in_own_span(prompt):
        """The instrumentation loses the root span of a run that raises: this one takes its place."""
        with provider.get_tracer("support").start_as_current_span("support"):
            return answer(prompt)

    return answer_in_own_span if record.scenario == "failure_in_own_span" else answer
