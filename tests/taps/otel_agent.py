"""An agent with plain OpenTelemetry: four tasks, one whose model fails."""
import otel_tap

def ask_model(question):
    if question == "#fail":
        raise RuntimeError("the model does not answer")
    return "fine", 50, 10

for question in ["hello", "hello again", "and again", "#fail"]:
    try:
        print(otel_tap.answer(question, ask_model))
    except RuntimeError as error:
        print("failed:", error)
