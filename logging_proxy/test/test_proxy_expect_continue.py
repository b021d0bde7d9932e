"""Expect: 100-continue goes from end to end: we promise nothing for the upstream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import ServerLimits
from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, ok, post

HEAD, BODY = post(b"hello", "Expect: 100-continue")[:-5], b"hello"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BODY_TIMEOUT = ServerLimits().body_timeout


class ExpectContinueTests(SynchronousTestCase):
    def test_the_upstream_decides(self) -> None:
        """The expectation is forwarded before any body, and only the upstream's responses come back."""
        stage = Stage()
        client = stage.client(HEAD)
        self.assertIn(b"\r\nExpect: 100-continue\r\n", stage.upstream.received())
        stage.pass_time(5)
        self.assertEqual(client.received(), b"")
        stage.upstream.deliver(CONTINUE)
        self.assertEqual(client.received(), CONTINUE)
        client.deliver(BODY)
        self.assertEqual(stage.upstream.received(), BODY)
        stage.upstream.deliver(ok())
        self.assertEqual(client.received(), ok())
        self.assertEqual(stage.capture.body(Kind.INFORMATIONAL), CONTINUE)
        self.assertIsNotNone(stage.pool.take())
        self.assertEqual(stage.problems(), [])

    def test_refused(self) -> None:
        """A final answer instead of 100 is passed on; the body need not come, and the connections end."""
        stage = Stage()
        client = stage.client(HEAD)
        stage.upstream.deliver(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        received = client.received()
        self.assertTrue(received.startswith(b"HTTP/1.1 417 "))
        self.assertIn(b"Connection: close", received)
        self.assertTrue(client.closed)
        self.assertIsNone(stage.pool.take())
        self.assertEqual(stage.problems(), [])

    def test_impatient_client(self) -> None:
        """A client that does not wait is not held back."""
        stage = Stage()
        client = stage.client(HEAD + BODY)
        self.assertTrue(stage.upstream.received().endswith(b"\r\n\r\nhello"))
        stage.upstream.deliver(CONTINUE + ok())
        self.assertEqual(client.received(), CONTINUE + ok())

    def test_our_own_answer(self) -> None:
        """The proxy's own response is final: there is no 100 before it."""
        stage = Stage()
        client = stage.client(HEAD.replace(b"/api/x", b"/nowhere"))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 404 "))
        self.assertTrue(client.closed)
        self.assertEqual(stage.problems(), [])

    def test_time_to_wait(self) -> None:
        """While the client waits for the 100, however long, its body is not late."""
        stage = Stage()
        client = stage.client(HEAD)
        stage.pass_time(200)
        stage.upstream.deliver(b"HTTP/1.1 103 Hints\r\n\r\n")
        stage.pass_time(200)
        stage.upstream.deliver(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.received()
        stage.pass_time(BODY_TIMEOUT - 1)
        self.assertEqual(client.received(), b"")
        stage.pass_time(1.5)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
        self.assertEqual(stage.capture.outcome, "protocol_error")

    def test_interim_heads_that_waited_together(self) -> None:
        """Two that the spool has held up are sent as one, and are no final answer; the second is a 100."""
        stage = Stage()
        client = stage.client(HEAD)
        stage.freeze_spool()
        stage.upstream.deliver(b"HTTP/1.1 103 Hints\r\n\r\n" + CONTINUE)
        stage.thaw_spool()
        self.assertEqual(client.received(), b"HTTP/1.1 103 Hints\r\n\r\n" + CONTINUE)
        stage.pass_time(BODY_TIMEOUT + 1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
        self.assertEqual(stage.problems(), [])

    def test_time_while_the_spool_is_full(self) -> None:
        """Nor is it when reading was held up in between."""
        stage = Stage()
        stage.freeze_spool()
        client = stage.client(HEAD)
        stage.thaw_spool()
        stage.pass_time(200)
        client.deliver(BODY)
        stage.upstream.deliver(ok())
        self.assertEqual(client.received(), ok())

    def test_body_without_waiting(self) -> None:
        """A client that begins its body without the 100 has the usual time to go on."""
        stage = Stage()
        client = stage.client(HEAD + BODY[:1])
        stage.pass_time(BODY_TIMEOUT + 1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
        stage = Stage()
        client = stage.client(HEAD)
        stage.pass_time(100)
        client.deliver(BODY[:1])
        stage.pass_time(BODY_TIMEOUT + 1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
