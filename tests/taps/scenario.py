"""What the agents of all frameworks do: the prompts say what the fake model server answers."""
import asyncio, os
from concurrent.futures import ThreadPoolExecutor

# Success, a tool, a tool that fails and whose failure the agent gets over, three equal calls of a tool, an answer that is streamed
# slowly, a rate limit after which the client tries again, and a failure.
PROMPTS = ["hello", "#tool", "#tool #explode", "#loop", "#slow", "#retry", "#fail"]
MODEL = "gpt-4o-mini"
CLIENT = {"base_url": os.environ.get("MODEL_URL"), "api_key": "none", "max_retries": 1}
# Without a service, agents run without a tap.
IS_TAPPED = "SRE_URL" in os.environ


def lookup(q: str, explode: bool = False) -> str:
    """Looks an order up."""
    if explode:
        raise RuntimeError("order service unreachable")
    return f"order {q} is on its way"


def is_streamed(prompt):
    return "#slow" in prompt


def run(answer):
    """Answers the prompts one after the other, and then all at once in threads. Prints the results in the order of the prompts."""

    def result(prompt):
        try:
            return answer(prompt)
        except Exception as error:
            return f"failed: {type(error).__name__}"

    for prompt in PROMPTS:
        print(result(prompt))
    with ThreadPoolExecutor(len(PROMPTS)) as threads:
        print(*threads.map(result, PROMPTS), sep="\n")


async def run_async(answer):
    """Answers the prompts one after the other, and then all at once in tasks of asyncio. Prints the results in their order."""

    async def result(prompt):
        try:
            return await answer(prompt)
        except Exception as error:
            return f"failed: {type(error).__name__}"

    for prompt in PROMPTS:
        print(await result(prompt))
    print(*await asyncio.gather(*map(result, PROMPTS)), sep="\n")
