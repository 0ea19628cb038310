"""A local model server and a tool, which count what really happens, and a receiver of OTLP requests.

The prompt decides: `#tool` calls the tool, `#flaky` calls it twice and the first call fails, `#fail` is refused, and the first request of
`#retry` is answered with 429.
"""
import json
import re
from http.server import BaseHTTPRequestHandler

MARK = re.compile("#(tool|flaky|fail|retry)")
truth = dict.fromkeys(["tasks", "succeeded", "failed", "tool_calls", "tool_errors", "llm_calls", "llm_errors", "input_tokens",
                       "output_tokens", "llm_attempts"], 0)
exported = []
failing = set()


def lookup(q: str) -> str:
    """Looks an order up.

    Args:
        q: The number of the order.
    """
    truth["tool_calls"] += 1
    if q == "broken":
        truth["tool_errors"] += 1
        raise ValueError("no such order")
    return "shipped"


def text_of(content):
    return content if isinstance(content, str) else json.dumps(content)


def next_message(messages, tools):
    """Returns the status and the message with which the model answers, and counts the call."""
    asked = [index for index, message in enumerate(messages) if message["role"] == "user" and MARK.search(text_of(message["content"]))]
    prompt = text_of(messages[asked[-1]]["content"]) if asked else ""
    mark = MARK.search(prompt)[0] if asked else ""
    # smolagents repeats the results so far in the prompt itself.
    results = len(re.findall("Error executing tool|Observation:", prompt))
    results += sum(message["role"] == "assistant" for message in messages[asked[-1]:]) if asked else 0
    truth["llm_attempts"] += 1
    is_first = (mark, results) not in failing
    if is_first:  # A request that the client sends again is an attempt of one call.
        truth["llm_calls"] += 1
        truth["llm_errors"] += 1
        failing.add((mark, results))
    if mark == "#fail":
        return 400, "the model does not answer"
    if mark == "#retry" and is_first:
        return 429, "too many requests"
    failing.remove((mark, results))
    truth["llm_errors"] -= 1
    truth["input_tokens"] += 50
    truth["output_tokens"] += 10
    queries = {"#tool": ["1"], "#flaky": ["broken", "1"]}.get(mark, [])
    if results < len(queries):
        call = {"name": "lookup", "arguments": json.dumps({"q": queries[results]})}
    elif "final_answer" in tools:
        truth["tool_calls"] += 1  # smolagents ends a run by a call of its own tool.
        call = {"name": "final_answer", "arguments": json.dumps({"answer": "All is well."})}
    else:
        return 200, {"role": "assistant", "content": "All is well."}
    calls = [{"index": 0, "id": f"call_{results}", "type": "function", "function": call}]
    return 200, {"role": "assistant", "content": None, "tool_calls": calls}


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/v1/traces"):
            exported.append(body)
            return self.answer(200, b"", "application/x-protobuf")
        request = json.loads(body) if body else {}
        if self.path.split("?")[0].endswith("/v1/messages"):
            return self.answer_anthropic(request)
        if not self.path.endswith("/chat/completions"):
            return self.answer(404, b"{}")
        status, message = next_message(request["messages"], [tool["function"]["name"] for tool in request.get("tools", [])])
        if status != 200:
            return self.answer(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode())
        usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
        common = {"id": "x", "created": 1, "model": request["model"]}
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        if not request.get("stream"):
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            return self.answer(200, json.dumps(common | {"object": "chat.completion", "choices": choices, "usage": usage}).encode())
        chunks = [([{"index": 0, "delta": message, "finish_reason": None}], None),
                  ([{"index": 0, "delta": {}, "finish_reason": reason}], None), ([], usage)]
        lines = [json.dumps(common | {"object": "chat.completion.chunk", "choices": choices, "usage": usage}) for choices, usage in chunks]
        self.answer(200, "".join(f"data: {line}\n\n" for line in lines + ["[DONE]"]).encode(), "text/event-stream")

    def answer_anthropic(self, request):
        """Answers by Anthropic's API, which the Claude Agent SDK needs."""
        status, message = next_message(request["messages"], [])
        if status != 200:
            return self.answer(status, json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode())
        calls = message.get("tool_calls")
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": message["content"]}
        if calls:
            block = {"type": "tool_use", "id": calls[0]["id"], "name": f"mcp__orders__{calls[0]['function']['name']}", "input": {}}
            delta = {"type": "input_json_delta", "partial_json": calls[0]["function"]["arguments"]}
        usage = {"input_tokens": 50, "output_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        reason = "tool_use" if calls else "end_turn"
        answer = {"id": f"msg_{truth['llm_calls']}", "type": "message", "role": "assistant", "model": request["model"], "content": [],
                  "stop_reason": None, "stop_sequence": None, "usage": usage}
        if not request.get("stream"):
            content = [block | ({"text": message["content"]} if not calls else {"input": json.loads(delta["partial_json"])})]
            return self.answer(200, json.dumps(answer | {"content": content, "stop_reason": reason}).encode())
        events = [("message_start", {"message": answer}), ("content_block_start", {"index": 0, "content_block": block}),
                  ("content_block_delta", {"index": 0, "delta": delta}), ("content_block_stop", {"index": 0}),
                  ("message_delta", {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}), ("message_stop", {})]
        text = "".join(f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n" for kind, data in events)
        self.answer(200, text.encode(), "text/event-stream")
