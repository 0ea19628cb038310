"""A crew of CrewAI."""
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
import scenario
import sre_taps.crewai

if scenario.IS_TAPPED:
    sre_taps.crewai.tap()

lookup = tool("lookup")(scenario.lookup)

def answer(prompt):
    model = LLM(model=f"openai/{scenario.MODEL}", **scenario.CLIENT)
    agent = Agent(role="support", goal="help", backstory="support", llm=model, tools=[lookup], max_retry_limit=0)
    task = Task(description=prompt, expected_output="an answer", agent=agent)
    return Crew(name="support", agents=[agent], tasks=[task]).kickoff()

scenario.run(answer)
