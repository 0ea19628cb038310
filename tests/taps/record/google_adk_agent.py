import record
from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types


def make(base_url, lookup):
    record.provider()
    model = LiteLlm("openai/gpt-4o-mini", api_base=base_url, api_key="none")
    agent = LlmAgent(name="support", model=model, tools=[lookup],
                     # Without it, the exception of a tool ends the run.
                     on_tool_error_callback=lambda tool, args, tool_context, error: {"error": str(error)})
    runner = InMemoryRunner(agent, app_name="support")

    async def answer(prompt):
        session = await runner.session_service.create_session(app_name="support", user_id="user")
        message = types.Content(role="user", parts=[types.Part(text=prompt)])
        text = None
        async for event in runner.run_async(user_id="user", session_id=session.id, new_message=message):
            if event.content and event.content.parts:
                text = event.content.parts[0].text
        return text

    return answer
