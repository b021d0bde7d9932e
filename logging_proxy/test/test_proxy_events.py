"""The events of an exchange, and the observers that are called with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from twisted.internet.error import ConnectionRefusedError
from twisted.logger import ILogObserver, LogEvent
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, ok
from logging_proxy.test.test_proxy_tunnel import ASKED, SWITCH

STEPS = ("method", "response", "outcome")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


class EventCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []

    def stage(self, *observers: Any, **options: Any) -> Stage:
        return Stage(observers=[cast(ILogObserver, self.events.append), *observers], **options)

    @property
    def steps(self) -> list[list[str]]:
        """Which of the three steps each event tells of."""
        return [[step for step in STEPS if step in event] for event in self.events]

    def exchange(self, stage: Stage, answer: bytes = b"") -> Wire:
        """A client that has had its request answered."""
        client = stage.client(get())
        stage.upstream.deliver(answer or ok(b"hello"))
        return client


class StepTests(EventCase):
    def test_short(self) -> None:
        """An exchange has a start, then head and end of the response in one event when they come at once."""
        stage = self.stage()
        self.exchange(stage)
        self.assertEqual(self.steps, [["method"], ["response", "outcome"]])
        start, end = self.events
        self.assertEqual(start["exchange"], stage.capture.opening.id)
        self.assertEqual(end["exchange"], start["exchange"])
        told = (start["method"], start["target"], start["where"])
        self.assertEqual(told, (b"GET", b"/api/x", "http://up.example/x"))
        self.assertEqual([end["response"]], stage.capture.of(Kind.RESPONSE_HEAD))
        self.assertEqual((end["outcome"], end["error"]), ("complete", ""))

    def test_stream(self) -> None:
        """The pieces of a stream are recorded without events; its head and its end have one each."""
        stage = self.stage()
        self.exchange(stage, CHUNKED)
        for _ in range(100):
            stage.upstream.deliver(b"1\r\nx\r\n")
        self.assertEqual(self.steps, [["method"], ["response"]])
        stage.upstream.deliver(b"0\r\n\r\n")
        self.assertEqual(self.steps, [["method"], ["response"], ["outcome"]])
        self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"x" * 100)

    def test_records(self) -> None:
        """The records of an event are those that the capture has of its step, in their order."""
        stage = self.stage()
        self.exchange(stage)
        told = [(kind, payload) for event in self.events for kind, _, payload in event["records"]]
        self.assertEqual(told, [(each.kind, each.content) for each in stage.capture.records])

    def test_not_recorded(self) -> None:
        """An exchange that is not recorded has the same events, without capture and records."""
        stage = self.stage(logging=False)
        self.exchange(stage)
        self.exchange(stage, CHUNKED)
        stage.upstream.rst()
        self.assertEqual(
            self.steps, [["method"], ["response", "outcome"], ["method"], ["response"], ["outcome"]]
        )
        for event in self.events:
            self.assertEqual((event["capture"], event["records"]), (None, ()))

    def test_failure(self) -> None:
        """Without a response of the upstream's, the event of the end has the head of our own."""
        stage = self.stage()
        stage.endpoint.failure = ConnectionRefusedError()
        stage.client(get())
        self.assertEqual(self.steps, [["method"], ["response", "outcome"]])
        end = self.events[-1]
        self.assertTrue(end["response"].startswith(b"HTTP/1.1 502 "))
        self.assertEqual(end["outcome"], "connect_failed")
        self.assertIn("refused", end["error"])

    def test_cut(self) -> None:
        """A response that is cut, and a client that leaves, end with their outcome."""
        for logging in (True, False):
            self.events.clear()
            stage = self.stage(logging=logging)
            self.exchange(stage, CHUNKED)
            stage.upstream.rst()
            stage.turn()
            stage.client(get()).rst()
            stage.turn()
            self.assertEqual(self.steps, [["method"], ["response"], ["outcome"], ["method"], ["outcome"]])
            outcomes = [event["outcome"] for event in self.events if "outcome" in event]
            self.assertEqual(outcomes, ["upstream_reset", "client_closed"])

    def test_complete_but_not_delivered(self) -> None:
        """A client that leaves with a complete response on its way makes no second end."""
        for logging in (True, False):
            self.events.clear()
            stage = self.stage(logging=logging)
            client = stage.client(get())
            client.stalled = True
            stage.upstream.deliver(ok(b"x" * 300_000))
            client.rst()
            stage.turn()
            ends = [event["outcome"] for event in self.events if "outcome" in event]
            self.assertEqual((len(ends), stage.in_flight), (1, 0))

    def test_our_own(self) -> None:
        """A request without a route, and a malformed one, have start, response and end."""
        stage = self.stage()
        stage.client(get("/nope"))
        self.assertEqual(self.steps, [["method"], ["response", "outcome"]])
        self.assertEqual(self.events[0]["where"], "NOT_FOUND")
        self.events.clear()
        stage.client(b"nonsense\r\n\r\n")
        self.assertEqual(self.steps, [["method", "response", "outcome"]])
        self.assertEqual(self.events[0]["outcome"], "protocol_error")

    def test_tunnel(self) -> None:
        """A tunnel has the head that switched protocols, and its end; its bytes are no events."""
        stage = self.stage()
        client = stage.client(get("/api/x", *ASKED))
        stage.upstream.deliver(SWITCH)
        client.deliver(b"up")
        stage.upstream.deliver(b"down")
        stage.upstream.fin()
        client.fin()
        stage.turn()
        self.assertEqual(self.steps, [["method"], ["response"], ["outcome"]])
        self.assertEqual(self.events[-1]["outcome"], "complete")

    def test_stored_first(self) -> None:
        """The records of a step are stored before its bytes are sent."""
        stage = self.stage()
        seen: list[tuple[int, bytes]] = []

        def look(event: LogEvent) -> None:
            sent = b"".join(bytes(wire.sent) for wire in (*stage.clients, *stage.endpoint.wires))
            seen.append((len(stage.captures[0].records), sent))

        stage = Stage(observers=[cast(ILogObserver, look)])
        self.exchange(stage)
        head = stage.upstream.received()
        self.assertEqual(seen[0], (2, b""))
        self.assertEqual(seen[1], (5, head))

    def test_refused(self) -> None:
        """With `on_capture_error: block` a request is answered 503 while nothing can be recorded."""
        stage = self.stage(pass_on_failure=False)
        stage.writer.spool_moved("No space left on device")
        client = stage.client(get())
        self.assertTrue(client.received().startswith(b"HTTP/1.1 503 "))
        self.assertEqual(self.steps, [["method"], ["response", "outcome"]])
        self.assertEqual((self.events[0]["where"], self.events[0]["capture"]), ("REFUSED", None))


class IsolationTests(EventCase):
    def test_raising(self) -> None:
        """An observer that raises harms no other, no exchange and no capture, and its failure is logged."""

        def fails(event: LogEvent) -> None:
            raise ZeroDivisionError

        stage = Stage(observers=[cast(ILogObserver, fails), cast(ILogObserver, self.events.append)])
        for _ in range(50):
            self.assertTrue(self.exchange(stage).received().endswith(b"hello"))
        told = [event for event in self.events if "exchange" in event]
        self.assertEqual(len(told), 100)
        self.assertEqual([capture.outcome for capture in stage.captures], ["complete"] * 50)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 7, "1, 2, 4, ... 64")

    def test_raising_capture(self) -> None:
        """If it is the capture's own observer, the exchange goes on all the same."""
        stage = self.stage()
        self.patch(stage.ring, "store", lambda data: 1 // 0)
        self.assertTrue(self.exchange(stage).received().endswith(b"hello"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual([step for step in self.steps if step], [["method"], ["response", "outcome"]])


class NewcomerTests(EventCase):
    def test_example(self) -> None:
        """The observer in docs/architecture.md works as it stands there, in ten lines."""
        if not ARCHITECTURE.exists():
            raise SkipTest("the documents are not part of this installation")
        (example,) = re.findall(r"```python\n(.*?class .*?)```", ARCHITECTURE.read_text("utf-8"), re.DOTALL)
        lines = [line for line in example.splitlines() if line and not line.startswith(("from", "import"))]
        self.assertLessEqual(len(lines), 10)
        namespace: dict[str, Any] = {}
        exec(example, namespace)
        observer = namespace["OutcomeCounter"]()
        stage = self.stage(observer)
        self.exchange(stage)
        stage.client(b"nonsense\r\n\r\n")
        self.assertEqual(observer.counts, {"complete": 1, "protocol_error": 1})
