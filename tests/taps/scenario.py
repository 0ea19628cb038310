"""What the agents of all frameworks do: the prompts say what the fake model server answers."""
import os

# Success, a tool, a tool that fails and whose failure the agent gets over, a rate limit that the client retries, and a failure.
PROMPTS = ["hello", "#tool", "#tool #explode", "#retry", "#fail"]
MODEL = "gpt-4o-mini"
CLIENT = {"base_url": os.environ.get("MODEL_URL"), "api_key": "none", "max_retries": 1}
# Without a service, agents run without a tap.
IS_TAPPED = "SRE_URL" in os.environ


def lookup(q: str, explode: bool = False) -> str:
    """Looks an order up."""
    if explode:
        raise RuntimeError("order service unreachable")
    return f"order {q} is on its way"


def run(answer):
    """Answers every prompt, and prints the result."""
    for prompt in PROMPTS:
        try:
            print(answer(prompt))
        except Exception as error:
            print("failed:", type(error).__name__)
