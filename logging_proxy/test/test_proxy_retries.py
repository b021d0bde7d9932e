"""When a request is sent a second time, and that nothing else ever is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, ok, post


class RetryTests(SynchronousTestCase):
    def reused(self, data: bytes, client_reads: bool = True) -> tuple[Stage, Wire]:
        """A stage whose upstream connection has answered before; then a client has sent `data` on it."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(ok())
        stage.turn()
        stage.upstream.received()
        client = stage.client(data)
        self.assertEqual(len(stage.endpoint.wires), 1)
        return stage, client

    def test_stale_connection(self) -> None:
        """A GET on a connection that the upstream was just closing goes out once more, on a new one."""
        for end in (Wire.fin, Wire.rst):
            with self.subTest(end.__name__):
                stage, client = self.reused(get("/api/again"))
                end(stage.upstream)
                self.assertEqual(len(stage.endpoint.wires), 2)
                self.assertEqual(
                    stage.upstream.received(), b"GET /again HTTP/1.1\r\nHost: up.example\r\n\r\n"
                )
                stage.upstream.deliver(ok(b"second"))
                self.assertTrue(client.received().endswith(b"second"))
                self.assertEqual(stage.problems(), [])

    def test_recorded(self) -> None:
        """The second try is told in the capture, whose outcome is that of the second try."""
        stage, _ = self.reused(get())
        stage.upstream.rst()
        stage.upstream.deliver(ok())
        capture = stage.captures[1]
        (note,) = capture.of(Kind.NOTE)
        self.assertIn(b'"retry"', note)
        self.assertEqual(capture.outcome, "complete")

    def test_never_twice(self) -> None:
        """A second failure is the answer: the new connection is not an old one."""
        stage, client = self.reused(get())
        stage.upstream.rst()
        stage.upstream.rst()
        self.assertEqual(len(stage.endpoint.wires), 2)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(stage.captures[1].outcome, "upstream_reset")
        self.assertEqual(stage.problems(), [])

    def test_not_on_a_new_connection(self) -> None:
        """A request is not sent again after a failure on a new connection."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.fin()
        self.assertEqual(len(stage.endpoint.wires), 1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(stage.capture.outcome, "upstream_closed")

    def test_not_a_post(self) -> None:
        """A POST is never sent twice, nor is any other method that is not safe, nor a GET with a body."""
        body = "\r\nContent-Length: 1\r\n\r\nx"
        requests = [post(b"x"), post(b"")]
        requests += [get().replace(b"GET", method) for method in (b"PUT", b"DELETE", b"PATCH", b"BREW")]
        requests += [get()[:-4] + body.encode()]
        for data in requests:
            with self.subTest(data):
                stage, client = self.reused(data)
                stage.upstream.rst()
                self.assertEqual(len(stage.endpoint.wires), 1)
                self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
                self.assertEqual(stage.problems(), [])

    def test_not_after_a_byte_of_the_response(self) -> None:
        """An upstream that has begun to answer has had the request: half a head, or an interim answer."""
        for heard in (
            b"HTT",
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ):
            with self.subTest(heard):
                stage, _ = self.reused(get())
                stage.upstream.deliver(heard)
                stage.upstream.rst()
                stage.turn()
                self.assertEqual(len(stage.endpoint.wires), 1)
                self.assertEqual(stage.captures[1].outcome, "upstream_reset")
                self.assertEqual(stage.problems(), [])

    def test_not_after_silence(self) -> None:
        """An upstream that takes too long has had the request too."""
        stage, client = self.reused(get())
        stage.pass_time(601)
        self.assertEqual(len(stage.endpoint.wires), 1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 504 "))
        self.assertEqual(stage.captures[1].outcome, "upstream_timeout")
