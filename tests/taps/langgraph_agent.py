"""An agent of LangGraph."""
import asyncio
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt
import scenario
import sre_taps.langgraph

if scenario.IS_TAPPED:
    sre_taps.langgraph.tap()

tools = [tool(scenario.lookup)]
model = ChatOpenAI(model=scenario.MODEL, **scenario.CLIENT).bind_tools(tools)
streaming_model = ChatOpenAI(model=scenario.MODEL, streaming=True, **scenario.CLIENT).bind_tools(tools)

def agent(state: MessagesState):
    messages = state["messages"]
    return {"messages": [(streaming_model if scenario.is_streamed(messages[0].content) else model).invoke(messages)]}

graph = StateGraph(MessagesState)
graph.add_node("agent", agent)
graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
graph.add_edge(START, "agent")
graph.add_conditional_edges("agent", tools_condition)
graph.add_edge("tools", "agent")
graph = graph.compile(name="support")

def answer(prompt):
    # Synchronous and asynchronous calls in turn.
    inp = {"messages": [("user", prompt)]}
    state = asyncio.run(graph.ainvoke(inp)) if "#" in prompt else graph.invoke(inp)
    return [(message.type, message.content) for message in state["messages"]]

scenario.run(answer)

# An interrupt waits for a person, and is no failure; an exception of a node is one.
def ask(state: MessagesState):
    interrupt("approve?")

def crash(state: MessagesState):
    raise RuntimeError("a bug")

for node in [ask, crash]:
    other = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")
    try:
        other = other.compile(name="support", checkpointer=InMemorySaver())
        other.invoke({"messages": []}, {"configurable": {"thread_id": "1"}})
        print("interrupted")
    except RuntimeError as error:
        print("failed:", error)
