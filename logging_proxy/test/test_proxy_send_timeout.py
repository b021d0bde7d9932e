"""A client that stops reading in the middle of a response is not waited for without end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.server import ServerLimits
from logging_proxy.test.proxy_stage import Stage, Wire, get, post

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"2710\r\n" + b"x" * 10_000 + b"\r\n"


class SendTimeoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage(server=ServerLimits(send_timeout=10.0, body_timeout=4.0))

    def stalled(self, request: bytes) -> Wire:
        """A client that does not read a response that holds its upstream back."""
        client = self.stage.client(request)
        client.stalled = True
        self.stage.upstream.deliver(STREAM + CHUNK * 30, 16384)
        self.assertFalse(self.stage.upstream.reading)
        return client

    def assertGivenUp(self) -> None:
        stage = self.stage
        stage.turn()
        self.assertTrue(stage.upstream.aborted)
        self.assertEqual(stage.capture.outcome, "client_closed")
        self.assertEqual(stage.capture.error, "the client took nothing for 10 s")
        self.assertEqual(stage.problems(), [])
        self.assertEqual(len(stage.site.connections), 0)
        self.assertEqual(stage.clock.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """One that takes nothing is reset after the time to send, and the upstream with it."""
        client = self.stalled(get())
        self.stage.pass_time(9)
        self.assertFalse(client.aborted)
        self.stage.pass_time(1.5)
        self.assertTrue(client.aborted)
        self.assertGivenUp()

    def test_during_upload(self) -> None:
        """A body that goes on arriving does not put it off."""
        client = self.stalled(post(b"y" * 100)[:-99])
        for _ in range(11):
            self.stage.pass_time(1)
            client.deliver(b"y")
        self.assertGivenUp()

    def test_reads_again(self) -> None:
        """One that reads everything now and then is never late."""
        client = self.stalled(get())
        for _ in range(6):
            self.stage.pass_time(9)
            client.take()
            self.stage.turn()
            self.stage.upstream.deliver(CHUNK * 30, 16384)
        self.assertFalse(client.aborted)
        self.assertEqual(self.stage.in_flight, 1)

    def test_nothing_waits(self) -> None:
        """Nothing is asked of a client while little waits for it, nor once the response is handed over."""
        client = self.stage.client(get())
        client.stalled = True
        self.stage.upstream.deliver(STREAM + CHUNK)
        self.stage.pass_time(60)
        self.assertFalse(client.aborted)
        self.stage.upstream.deliver(CHUNK * 8)
        client.take()
        self.stage.turn()
        self.stage.upstream.deliver(b"0\r\n\r\n")
        client.take()
        self.stage.pass_time(20)
        self.assertEqual(self.stage.capture.outcome, "complete")
        self.assertFalse(client.aborted)
