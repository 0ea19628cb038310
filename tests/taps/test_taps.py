"""Tests what the Python taps send, and that nothing they meet reaches the agent. Frameworks that are missing are skipped."""
import asyncio, contextlib, http.server, importlib.util, json, logging, os, subprocess, sys, threading, types, unittest, unittest.mock
import sre_taps
from sre_taps import _sender, dify
from sre_taps._values import MAX_ARGUMENTS, Bounded, arguments_of, plain


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps the events of all requests."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events += [json.loads(line) for line in body.splitlines()]
        answer = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def receiver(answer=None):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.events, server.answer = [], answer or {}
        server.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Bad:
    """An object that raises wherever it is read."""

    def __str__(self):
        raise RuntimeError("no text")

    def model_dump(self):
        raise RuntimeError("no dump")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Values(unittest.TestCase):
    def test_json_can_hold_every_value(self):
        circular = {}
        circular["self"] = circular
        model = types.SimpleNamespace(model_dump=lambda: {"a": 1})
        for value, expected in [
            (float("nan"), None),
            (-float("inf"), None),
            (5.0, 5),
            (0.5, 0.5),
            ("\ud800!", "?!"),
            ({1: "a", "\udfff": Bad()}, {"1": "a", "?": "Bad"}),
            (model, {"a": 1}),
            ({2, 1}, [1, 2]),
        ]:
            self.assertEqual(json.loads(json.dumps(plain(value))), expected)
        for value in [circular, nested(100_000), 10**5000, [circular] * 3]:
            self.assertLess(len(json.dumps(arguments_of(value))), 4 * MAX_ARGUMENTS)

    def test_large_arguments_are_bounded_and_stay_equal(self):
        text = "é" * 10_000_000
        self.assertEqual(arguments_of({"q": text}), arguments_of({"q": "é" * 10_000_000}))
        self.assertNotEqual(arguments_of({"q": text}), arguments_of({"q": text[:-1] + "e"}))
        for value in ({"q": text}, [text] * 1000, list(range(1_000_000)), {n: n for n in range(1_000_000)}):
            self.assertLess(len(json.dumps(arguments_of(value))), 4 * MAX_ARGUMENTS)

    def test_the_oldest_call_is_dropped(self):
        calls = Bounded(2)
        for call in "abc":
            calls[call] = True
        self.assertEqual(list(calls), ["b", "c"])


class Senders(unittest.TestCase):
    def test_nothing_that_a_task_is_given_raises(self):
        with receiver() as server:
            with sre_taps.task(agent="support", url=server.address) as task:
                task.fail(Bad())
                with sre_taps.llm_call("m") as call:
                    call.usage(input_tokens=5.0, output_tokens=None, cost_usd=float("nan"))
                    call.usage(input_tokens=5.0, output_tokens=None, cost_usd=Bad())
                for arguments in (nested(100_000), Bad(), float("nan"), {1: 2, "a": 3}):
                    with sre_taps.tool_call(None, arguments):
                        pass
                sre_taps.llm_call("m").first_token()
            self.assertTrue(sre_taps.flush(10))
        kinds = [event["event"] for event in server.events]
        self.assertEqual(kinds, ["task_started", "llm_call", *["tool_call"] * 4, "task_finished"])
        model, tool, finished = server.events[1], server.events[2], server.events[-1]
        self.assertEqual((model["input_tokens"], model["output_tokens"], "cost_usd" in model), (5, 0, False))
        self.assertEqual((tool["tool"], len(tool["arguments_hash"])), ("unknown", 64))
        self.assertEqual((finished["success"], finished["error"]), (False, "Bad"))

    def test_a_logging_handler_that_raises_stops_nothing(self):
        handler = logging.Handler()
        handler.handle = lambda record: 1 / 0
        _sender.LOG.addHandler(handler)
        try:
            with receiver({"accepted": 0, "rejected": 1, "errors": [{"line": 1, "error": "no agent"}]}) as server:
                sender = _sender.Sender("sre", server.address)
                sender.forward(lambda: 1 / 0)
                sender.put({"event": "heartbeat"})
                self.assertTrue(sender.flush(10))
                sender.put({"event": "heartbeat"})
                self.assertTrue(sender.flush(10))
            self.assertEqual((len(server.events), sender.lost), (2, 3))
        finally:
            _sender.LOG.removeHandler(handler)

    def test_a_sender_thread_that_ended_is_replaced(self):
        with receiver() as server:
            sender = _sender.Sender("sre", server.address)
            sender._thread = threading.Thread()
            sender.put({"event": "heartbeat"})
            self.assertTrue(sender.flush(10))

    def test_a_loopback_address_needs_no_scheme_and_no_proxy(self):
        with receiver() as server, unittest.mock.patch.dict(os.environ, {"http_proxy": "http://127.0.0.1:9"}):
            sender = _sender.Sender("sre", server.address)
            sender.put({"event": "heartbeat"})
            self.assertTrue(sender.flush(10))

    def test_a_fork_during_the_first_request_loses_nothing(self):
        agent = """if True:
            import os, sys, sre_taps
            from sre_taps._sender import sender
            sender = sender("sre")
            before, children = set(sys.modules), []
            for number in range(10):
                sender.put({"event": "parent"})
                children.append(os.fork())
                if children[-1] == 0:
                    sender.put({"event": "child"})
                    os._exit(not sender.flush(30))
            assert sender.flush(30)
            imported = set(sys.modules) - before
            assert not imported, imported
            assert not any(os.waitpid(child, 0)[1] for child in children)
        """
        with receiver() as server:
            command = [sys.executable, "-c", agent]
            subprocess.run(command, env={**os.environ, "SRE_URL": server.address}, check=True, timeout=120)
        self.assertEqual(sorted(event["event"] for event in server.events), ["child"] * 10 + ["parent"] * 10)

    def test_a_tap_is_installed_once(self):
        installed = []
        install = _sender.install_once(installed.append)
        first, second = _sender.Sender("crewai", agent="a"), _sender.Sender("crewai", agent="b")
        with self.assertLogs(_sender.LOG) as log:
            for sender in (first, first, second):
                install(sender)
        self.assertEqual((installed, len(log.output)), ([first], 1))

    def test_dify_forwards_the_attempts_of_a_node(self):
        data = {"id": "n", "node_type": "llm", "status": "retry", "error": "busy", "retry_index": 1}
        payloads = [{"event": event, "task_id": "1", "data": data} for event in ("node_started", "node_retry", "ping")]
        with receiver() as server:
            self.assertEqual(list(dify.tap(payloads, url=server.address)), payloads)
            self.assertTrue(sre_taps.flush(10))
        found = [(event["event"], event.get("data")) for event in server.events]
        self.assertEqual(found, [("node_started", data), ("node_retry", data), ("error", None)])


@unittest.skipUnless(importlib.util.find_spec("autogen_agentchat"), "AutoGen is not installed")
class AutoGen(unittest.TestCase):
    def test_a_team_that_is_tapped_twice_counts_once_and_keeps_its_run(self):
        from autogen_agentchat.agents import BaseChatAgent
        from autogen_agentchat.base import Response
        from autogen_agentchat.messages import TextMessage
        import sre_taps.autogen

        class Agent(BaseChatAgent):
            produced_message_types = (TextMessage,)

            async def on_messages(self, messages, cancellation_token):
                return Response(chat_message=TextMessage(content="whole", source=self.name))

            async def on_messages_stream(self, messages, cancellation_token):
                yield Response(chat_message=TextMessage(content="streamed", source=self.name))

            async def on_reset(self, cancellation_token):
                pass

        async def answers(agent):
            streamed = [message async for message in agent.run_stream(task="hello")]
            return (await agent.run(task="hello")).messages[-1].content, streamed[-1].messages[-1].content

        with receiver() as server:
            agent = Agent("support", "")
            for _ in range(2):
                sre_taps.autogen.tap(agent, url=server.address)
            self.assertEqual(asyncio.run(answers(agent)), ("whole", "streamed"))
            self.assertTrue(sre_taps.flush(10))
        kinds = [event["type"] for event in server.events]
        self.assertEqual(kinds, ["conversation_start", "TextMessage", "TextMessage", "TaskResult"] * 2)

    def test_the_log_keeps_the_level_that_is_set_later(self):
        from autogen_core import EVENT_LOGGER_NAME
        import sre_taps.autogen

        sre_taps.autogen._tap_log()
        log, shown = logging.getLogger(EVENT_LOGGER_NAME), []
        handler = logging.Handler()
        handler.emit = lambda record: shown.append(record.msg)
        log.addHandler(handler)
        log.info("before")
        log.setLevel(logging.INFO)
        log.info("after")
        log.removeHandler(handler)
        self.assertEqual(shown, ["after"])


@unittest.skipUnless(importlib.util.find_spec("semantic_kernel"), "Semantic Kernel is not installed")
class SemanticKernel(unittest.TestCase):
    def test_two_agents_of_one_kernel_have_a_task_each(self):
        from semantic_kernel import Kernel
        from semantic_kernel.agents import ChatCompletionAgent
        from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
        from semantic_kernel.contents import ChatMessageContent
        import sre_taps.semantic_kernel

        class Service(ChatCompletionClientBase):
            async def _inner_get_chat_message_contents(self, chat_history, settings):
                return [ChatMessageContent(role="assistant", content="fine", metadata={"usage": {"prompt_tokens": 5}})]

        with receiver() as server:
            kernel = Kernel(services=[Service(ai_model_id="m", service_id="default")])
            agents = [ChatCompletionAgent(kernel=kernel, name=name) for name in ("a", "b")]
            for agent in agents * 2:
                sre_taps.semantic_kernel.tap(agent, url=server.address)
            for agent in agents:
                asyncio.run(agent.get_response("hello"))
            self.assertTrue(sre_taps.flush(10))
        found = [event.get("kernel") or event["event"] for event in server.events]
        self.assertEqual(found, ["a", "model_call", "kernel_end", "b", "model_call", "kernel_end"])


if __name__ == "__main__":
    unittest.main()
