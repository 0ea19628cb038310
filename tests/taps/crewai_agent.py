"""A crew of CrewAI."""
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
import scenario
import sre_taps.crewai

if scenario.IS_TAPPED:
    sre_taps.crewai.tap()

lookup = tool("lookup")(scenario.lookup)

def answer(prompt, **guardrail):
    model = LLM(model=f"openai/{scenario.MODEL}", stream=scenario.is_streamed(prompt), **scenario.CLIENT)
    agent = Agent(role="support", goal="help", backstory="support", llm=model, tools=[lookup], max_retry_limit=0)
    task = Task(description=prompt, expected_output="an answer", agent=agent, **guardrail)
    return Crew(name="support", agents=[agent], tasks=[task]).kickoff()

scenario.run(answer)

# A guardrail that an answer passes, and one that it does not.
for is_accepted in [True, False]:
    try:
        print(answer("hello", guardrail=lambda output: (is_accepted, output.raw), guardrail_max_retries=0))
    except Exception as error:
        print("failed:", type(error).__name__)
