"""Requests are judged by their heads: what may not pass is answered before its body, which nobody keeps."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure

from logging_proxy.logserver.web import bodies, requests
from logging_proxy.logserver.web.bodies import Body, DroppedBody
from logging_proxy.logserver.web.puts import StreamedBody
from logging_proxy.test.web_stage import Pipe, ServerTestCase

SPOOL = "/api/spools/0123456789abcdef0123456789abcdef/0"
UPLOAD = "/11111111-2222-3333-4444-555555555555/request"
ADDRESSES = (
    ("POST", "/api/exchanges"),
    ("GET", "/api/exchanges"),
    ("POST", SPOOL),
    ("PUT", UPLOAD),
    ("POST", "/"),
    ("DELETE", "/metrics"),
    ("HEAD", "/nothing"),
    ("PUT", "/%61pi/exchanges"),
)


class StagedTestCase(ServerTestCase):
    def begin(self, method: str, target: str, *fields: str, length: str = "Content-Length: 1000") -> Pipe:
        """A connection on which the head of a request with a body has come."""
        pipe = self.connect()
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", length, *fields, "", ""]
        pipe.send("\r\n".join(lines).encode())
        return pipe

    def content(self, pipe: Pipe) -> Any:
        """What takes the body."""
        protocol: Any = pipe.protocol
        channel = getattr(protocol, "_channel", protocol)
        return channel.requests[-1].content


class RefusedTests(StagedTestCase):
    token = "s3cret-token-of-16"

    def test_answered_by_the_head(self) -> None:
        """Without the token each address answers 401 before a byte of a body, and will close."""
        for method, target in ADDRESSES:
            for length in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
                pipe = self.begin(method, target, length=length)
                reply = pipe.reply(method)
                self.assertEqual((reply.status, reply.headers["connection"]), (401, "close"), target)
                self.assertEqual(reply.headers["www-authenticate"], "Bearer")
                self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
                self.assertNotIn("server", reply.headers)
                self.assertTrue(pipe.half_closed)
                self.assertIsInstance(self.content(pipe), DroppedBody)
                pipe.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wrong_tokens(self) -> None:
        """A wrong token is no token, and other reasons to refuse are told as early."""
        for field, wanted in (
            ("Authorization: Bearer wrong", "no-token"),
            ("Origin: http://evil.example", "wrong-origin"),
            ("Host: localhost", "bad-host"),
        ):
            self.assertEqual(self.begin("POST", SPOOL, field).reply().problem, wanted)

    def test_the_rest_is_dropped(self) -> None:
        """What the client sends nevertheless is dropped; when all of it has come the connection closes."""
        pipe = self.begin("POST", SPOOL)
        pipe.send(b"x" * 999)
        self.assertFalse(pipe.disconnecting)
        pipe.send(b"x")
        self.assertTrue(pipe.disconnecting)
        pipe.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(pipe.value().count(b"HTTP/1.1 "), 1)

    def test_not_for_long(self) -> None:
        """Whoever goes on sending is cut off."""
        pipe = self.begin("POST", SPOOL)
        pipe.send(b"x" * 999)
        self.clock.advance(requests.LINGER)
        self.assertTrue(pipe.aborted)

    def test_nobody_is_asked_to_go_on(self) -> None:
        """A client that waits for 100 (Continue) is refused, not asked for its body."""
        pipe = self.begin("POST", SPOOL, "Expect: 100-continue")
        self.assertEqual(pipe.reply().status, 401)

    def test_without_a_body(self) -> None:
        """A request without a body is refused as well, and its connection stays for the next one."""
        pipe = self.connect()
        for _ in range(2):
            pipe.clear()
            pipe.send(b"GET /api/exchanges HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(pipe.reply().status, 401)
        self.assertFalse(pipe.disconnecting)


class BodiesTests(StagedTestCase):
    def test_who_takes_one(self) -> None:
        """Only uploads and the ingest keep a body; elsewhere it is dropped."""
        for method, target, kind in (
            ("POST", SPOOL, Body),
            ("POST", SPOOL.replace("api", "%61pi"), Body),
            ("PUT", UPLOAD, StreamedBody),
            ("PUT", "/no-id/request", DroppedBody),
            ("POST", "/health", DroppedBody),
            ("GET", "/health", DroppedBody),
            ("POST", "/api/exchanges", DroppedBody),
            ("GET", SPOOL, DroppedBody),
        ):
            pipe = self.begin(method, target, length=f"Content-Length: {bodies.BODY_LIMIT}")
            self.assertIsInstance(self.content(pipe), kind, (method, target))
            pipe.protocol.connectionLost(Failure(ConnectionLost()))

    def test_dropped_and_answered(self) -> None:
        """A body that nobody wants does not keep a request from its answer."""
        self.assertEqual(self.ask("GET", "/health", b"x" * 10).status, 200)
        self.assertEqual(self.ask("POST", "/health", b"x" * 10).status, 405)
        self.assertEqual(self.ask("PUT", "/no-id/request", b"x" * 10).problem, "bad-id")


class LogTests(ServerTestCase):
    def test_no_queries(self) -> None:
        """Whatever method asks for whatever address, no query is written into the log."""
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            for path in ("/", "/health", "/metrics", "/api/exchanges", "/api/live", "/nothing", UPLOAD, "*"):
                self.ask(method, f"{path}?q=canary-1&words=canary-2")
        self.assertEqual([text for text in map(eventAsText, events) if "canary" in text], [])
        self.assertFalse([each for each in events if each["log_namespace"].startswith("logging_proxy")])

    def test_heads(self) -> None:
        """HEAD is answered as GET is, with the length and without the bytes."""
        for path in ("/", "/health", "/api/openapi.json", "/nothing"):
            got, head = self.ask("GET", path), self.ask("HEAD", path)
            self.assertEqual((head.status, head.body), (got.status, b""))
            self.assertEqual(head.headers["content-type"], got.headers["content-type"])
            if path != "/health":
                self.assertEqual(head.headers["content-length"], str(len(got.body)))
