"""Responses that are not whole never look whole."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http import proxy_client
from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits

BEGINNINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "in the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nabc",
}


class TruncationTests(SynchronousTestCase):
    def cut(
        self, response: bytes, end: Callable[[Wire], None], request: bytes | None = None
    ) -> tuple[Stage, Wire]:
        stage = Stage()
        client = stage.client(request or get())
        stage.upstream.deliver(response)
        end(stage.upstream)
        stage.turn()
        return stage, client

    def test_fin(self) -> None:
        """An upstream that ends within a framed body: the bytes so far are passed on, then a reset."""
        for name in ("length", "chunked", "in a chunk", "in the last chunk"):
            for version in ("1.1", "1.0"):
                with self.subTest(name, version=version):
                    stage, client = self.cut(BEGINNINGS[name], Wire.fin, get(version=version))
                    received = client.received()
                    self.assertIn(b"abc", received)
                    self.assertNotIn(b"0\r\n\r\n", received)
                    self.assertTrue(client.aborted)
                    self.assertEqual(stage.capture.outcome, "upstream_closed")
                    self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"abc")
                    self.assertFalse(stage.capture.complete(Kind.RESPONSE_PIECE))
                    self.assertEqual(stage.problems(), [])

    def test_rst(self) -> None:
        """A reset ends every kind of body badly, one that lasts until close too: TLS without close_notify."""
        for name, response in BEGINNINGS.items():
            for version in ("1.1", "1.0"):
                with self.subTest(name, version=version):
                    stage, client = self.cut(response, Wire.rst, get(version=version))
                    self.assertTrue(client.aborted)
                    self.assertNotIn(b"0\r\n\r\n", client.received())
                    self.assertEqual(stage.capture.outcome, "upstream_reset")
                    self.assertFalse(stage.capture.complete(Kind.RESPONSE_PIECE))
                    self.assertEqual(stage.problems(), [])

    def test_rst_after_close_notify(self) -> None:
        """A body that ends with the connection is complete after a close_notify, however TCP ends."""
        self.patch(proxy_client, "closed_by_peer", lambda transport: True)
        for name, response in BEGINNINGS.items():
            stage, _ = self.cut(response, Wire.rst)
            expected = "complete" if name == "until close" else "upstream_reset"
            self.assertEqual(stage.capture.outcome, expected, name)

    def test_malformed(self) -> None:
        """A body that stops being chunks is cut where it does, and its connection dropped."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(BEGINNINGS["chunked"])
        stage.upstream.deliver(b"zz\r\n")
        self.assertTrue(client.aborted)
        self.assertTrue(stage.upstream.aborted)
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertEqual(stage.problems(), [])

    def test_silence(self) -> None:
        """A stream that pauses for longer than `stream_timeout` is cut, not before."""
        stage = Stage(limits=limits(stream_timeout=30.0))
        client = stage.client(get())
        stage.upstream.deliver(BEGINNINGS["chunked"])
        for _ in range(4):
            stage.pass_time(29)
            stage.upstream.deliver(b"1\r\nx\r\n")
        stage.pass_time(29)
        self.assertFalse(client.aborted)
        stage.pass_time(2)
        self.assertTrue(client.aborted)
        self.assertEqual(stage.capture.outcome, "upstream_timeout")
        self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"abcxxxx")

    def test_in_the_head(self) -> None:
        """Half a head is no response: 502, and the client's connection stays."""
        for end, outcome in ((Wire.fin, "upstream_closed"), (Wire.rst, "upstream_reset")):
            stage, client = self.cut(b"HTTP/1.1 200 OK\r\nContent-", end)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))
            self.assertFalse(client.aborted or client.disconnecting)
            self.assertEqual(stage.capture.outcome, outcome)
            self.assertEqual(stage.problems(), [])

    def test_waits_for_the_spool(self) -> None:
        """Bytes that came while the spool was full are passed on before the reset."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(BEGINNINGS["length"])
        client.received()
        stage.freeze_spool()
        stage.upstream.deliver(b"def")
        stage.upstream.rst()
        self.assertEqual((client.received(), client.aborted), (b"", False))
        stage.thaw_spool()
        self.assertEqual(client.received(), b"def")
        self.assertTrue(client.aborted)
        self.assertEqual(stage.problems(), [])

    def test_client_leaves_meanwhile(self) -> None:
        """A client that leaves while a cut response still waits leaves nothing behind."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(BEGINNINGS["length"])
        stage.freeze_spool()
        stage.upstream.deliver(b"def")
        stage.upstream.rst()
        client.rst()
        stage.thaw_spool()
        self.assertEqual(stage.capture.outcome, "upstream_reset")
        self.assertEqual(stage.problems(), [])
