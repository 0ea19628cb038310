"""An agent without a framework."""
import time
import scenario
from sre_taps import llm_call, task, tool_call

def model(prompt, **attempt):
    with llm_call(scenario.MODEL, **attempt) as call:
        if "#fail" in prompt or attempt.get("attempt") == 1:
            raise RuntimeError("the model does not answer")
        if scenario.is_streamed(prompt):
            time.sleep(0.1)
            call.first_token()
        call.usage(input_tokens=50, output_tokens=10)

def tool(q, explode):
    with tool_call("lookup", {"q": q}):
        return scenario.lookup(q, explode)

def answer(prompt):
    with task(agent="support"):
        if "#retry" in prompt:
            try:
                model(prompt, attempt=1, operation_id="1")
            except RuntimeError:
                pass
            model(prompt, attempt=2, operation_id="1")
            return "retried"
        model(prompt)
        for _ in range(3 if "#loop" in prompt else "#tool" in prompt):
            try:
                tool("1", "#explode" in prompt)
            except RuntimeError:
                pass
            model("answer")
        return "fine"

scenario.run(answer)
