"""An agent of LangChain, without LangGraph."""
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
import scenario
import sre_taps.langchain

if scenario.IS_TAPPED:
    sre_taps.langchain.tap()

lookup = tool(scenario.lookup)

def result(call):
    try:
        return lookup.invoke(call)
    except RuntimeError as error:
        return ToolMessage(str(error), tool_call_id=call["id"])

def agent(prompt):
    model = ChatOpenAI(model=scenario.MODEL, streaming=scenario.is_streamed(prompt), **scenario.CLIENT).bind_tools([lookup])
    messages = [("user", prompt)]
    while True:
        reply = model.invoke(messages)
        if not reply.tool_calls:
            return reply.content
        messages += [reply, *map(result, reply.tool_calls)]

scenario.run(RunnableLambda(agent, name="support").invoke)
