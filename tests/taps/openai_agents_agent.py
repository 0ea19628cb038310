"""An agent of the OpenAI Agents SDK."""
import asyncio
from agents import (Agent, GuardrailFunctionOutput, OpenAIChatCompletionsModel, RunConfig, RunHooks, Runner, function_tool,
                    input_guardrail, output_guardrail, set_trace_processors)
from openai import AsyncOpenAI
import scenario
import sre_taps.openai_agents

set_trace_processors([])
if scenario.IS_TAPPED:
    sre_taps.openai_agents.tap()

CONFIG = RunConfig(workflow_name="support")
model = OpenAIChatCompletionsModel(model=scenario.MODEL, openai_client=AsyncOpenAI(**scenario.CLIENT))
support = Agent(name="support", instructions="Help.", model=model, tools=[function_tool(scenario.lookup)])

async def answer(prompt):
    if not scenario.is_streamed(prompt):
        return (await Runner.run(support, prompt, run_config=CONFIG)).final_output
    result = Runner.run_streamed(support, prompt, run_config=CONFIG)
    async for _ in result.stream_events():
        pass
    return result.final_output

# A handoff, which is the only tool of its agent; a run that passes its guardrails; and one that does not.
@input_guardrail(run_in_parallel=False)
async def is_harmless(context, agent, prompt):
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="refund" in prompt)

@output_guardrail
async def is_polite(context, agent, output):
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

triage = Agent(name="triage", model=model, handoffs=[support])
guarded = Agent(name="guarded", model=model, input_guardrails=[is_harmless], output_guardrails=[is_polite])

async def main():
    await scenario.run_async(answer)
    for agent, prompt in [(triage, "#tool"), (guarded, "hello"), (guarded, "refund everything")]:
        try:
            print((await Runner.run(agent, prompt, run_config=CONFIG)).final_output)
        except Exception as error:
            print("failed:", type(error).__name__)

    # An exception that is none of the SDK's own, while another one is handled.
    class Hooks(RunHooks):
        async def on_agent_start(self, context, agent):
            raise RuntimeError("a bug")

    for hooks in [None, Hooks()]:
        try:
            raise ValueError
        except ValueError:
            try:
                print((await Runner.run(support, "hello", hooks=hooks, run_config=CONFIG)).final_output)
            except RuntimeError as error:
                print("failed:", error)

asyncio.run(main())
