"""Interim responses: passed on, captured, and never the end of an exchange."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, get, ok

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.css>\r\n\r\n"


class InformationalTests(SynchronousTestCase):
    def test_passed_on(self) -> None:
        """Any number of them, at once, as they came, however they are split."""
        for size in (1, 10, 65536):
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(HINTS + b"HTTP/1.1 102 Processing\r\n\r\n", size)
            self.assertEqual(client.received(), HINTS + b"HTTP/1.1 102 Processing\r\n\r\n")
            stage.upstream.deliver(HINTS + ok(), size)
            self.assertEqual(client.received(), HINTS + ok())
            self.assertEqual(len(stage.capture.of(Kind.INFORMATIONAL)), 3)
            self.assertIsNotNone(stage.pool.take())
            self.assertEqual(stage.problems(), [])

    def test_cleaned(self) -> None:
        """Fields of one connection are not passed on, nor a length where there is no body."""
        raw = b"HTTP/1.1 103 Early Hints\r\nConnection: X-A\r\nX-A: 1\r\nContent-Length: 5\r\nA: 1\r\n\r\n"
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(raw)
        self.assertEqual(client.received(), b"HTTP/1.1 103 Early Hints\r\nA: 1\r\n\r\n")
        stage.upstream.deliver(ok())
        self.assertEqual(stage.capture.body(Kind.INFORMATIONAL), raw)

    def test_switching_protocols(self) -> None:
        """A 101 without a request for it is a fault: 502, and the connection is dropped."""
        stage = Stage()
        client = stage.client(get("/api/x", "Connection: upgrade", "Upgrade: websocket"))
        switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\nraw"
        stage.upstream.deliver(switch)
        self.assertEqual(stage.capture.refused(Kind.RESPONSE_PIECE), switch)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertTrue(stage.upstream.aborted)
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertEqual(stage.problems(), [])

    def test_then_the_end(self) -> None:
        """An upstream that leaves after an interim response has not answered: 502."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(HINTS)
        stage.upstream.fin()
        self.assertTrue(client.received().startswith(HINTS + b"HTTP/1.1 502 "))
        self.assertEqual(stage.capture.outcome, "upstream_closed")
        self.assertEqual(stage.problems(), [])
