"""An agent of LangGraph: four tasks, one with a tool, one whose model fails."""
import asyncio, os
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph_tap import run

@tool
def lookup(q: str) -> str:
    """Looks an order up."""
    return f"order {q} is on its way"

model = ChatOpenAI(model="gpt-4o-mini", base_url=os.environ["MODEL_URL"], api_key="none", max_retries=0).bind_tools([lookup])

def agent(state: MessagesState):
    return {"messages": [model.invoke(state["messages"])]}

graph = StateGraph(MessagesState)
graph.add_node("agent", agent)
graph.add_node("tools", ToolNode([lookup]))
graph.add_edge(START, "agent")
graph.add_conditional_edges("agent", tools_condition)
graph.add_edge("tools", "agent")
graph = graph.compile(name="support")

async def main():
    for prompt in ["hello", "#tool", "hello again", "#fail"]:
        inp = {"messages": [("user", prompt)]}
        try:
            # Without a service the graph runs alone.
            state = await (run(graph, inp, os.environ["SRE_URL"]) if "SRE_URL" in os.environ else graph.ainvoke(inp))
            print([(message.type, message.content) for message in state["messages"]])
        except Exception as error:
            print("failed:", error)

asyncio.run(main())
