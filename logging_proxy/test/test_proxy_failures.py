"""The proxy's response, and the capture's outcome, when the destination gives no response."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.faults import HandshakeFailed, HandshakeTimeout, ResponseFault, UpstreamTimeout
from logging_proxy.outbound.ourselves import LeadsToOurselves
from logging_proxy.proxy.failures import Shutdown, verdict
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, post
from logging_proxy.tls.verification import CertificateRefused

SECRET = "sk-canary"

VERDICTS = [
    (error.ConnectionRefusedError(SECRET), "connect_failed", 502),
    (error.NoRouteError(SECRET), "connect_failed", 502),
    (error.DNSLookupError(SECRET), "connect_failed", 502),
    (error.TimeoutError(SECRET), "connect_failed", 504),
    (error.TCPTimedOutError(SECRET), "connect_failed", 504),
    (CancelledError(), "connect_failed", 504),
    (HandshakeFailed(SECRET), "tls_failed", 502),
    (HandshakeTimeout(SECRET), "tls_failed", 504),
    (SSL.Error([("ssl", "", SECRET)]), "tls_failed", 502),
    (CertificateRefused(SECRET), "tls_failed", 502),
    (LeadsToOurselves(SECRET), "connect_failed", 508),
    (Shutdown(SECRET), "interrupted", 503),
    (UpstreamTimeout(SECRET), "upstream_timeout", 504),
    (ResponseFault(SECRET), "protocol_error", 502),
    (error.ConnectionDone(SECRET), "upstream_closed", 502),
    (error.ConnectionLost(SECRET), "upstream_reset", 502),
    (error.ConnectionAborted(SECRET), "upstream_reset", 502),
    (RuntimeError(SECRET), "interrupted", 500),
]


class VerdictTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Each failure has its outcome and its status; the client's text has nothing of the exception's."""
        for failure, outcome, status in VERDICTS:
            with self.subTest(repr(failure)):
                found = verdict(Failure(failure))
                self.assertEqual((found.outcome, found.status), (outcome, status))
                self.assertNotIn(SECRET, found.text)
                self.assertTrue(found.error)
                self.assertNotIn("\n", found.error)

    def test_a_fault_of_ours(self) -> None:
        """Of an unexpected failure only the type is told, even in the capture."""
        self.assertEqual(verdict(Failure(RuntimeError(SECRET))).error, "internal error: RuntimeError")


class FailureTests(SynchronousTestCase):
    def test_connecting(self) -> None:
        """No connection: the status, the exchange's id, and the client's connection stays."""
        for failure, outcome, status in VERDICTS[:6]:
            stage = Stage()
            stage.endpoint.failure = failure
            client = stage.client(get())
            received = client.received()
            self.assertTrue(received.startswith(b"HTTP/1.1 %d " % status))
            self.assertIn(b"(exchange 00010203-0405-4607-8809-0a0b0c0d0e0f)\n", received)
            self.assertNotIn(SECRET.encode(), received)
            self.assertFalse(client.disconnecting)
            self.assertEqual(stage.capture.outcome, outcome)
            self.assertEqual(stage.capture.kinds[-3:], ["RESPONSE_HEAD", "RESPONSE_PIECE", "END"])
            self.assertEqual(stage.problems(), [])

    def test_connecting_during_upload(self) -> None:
        """... unless its request is not complete: then it is told that its connection ends."""
        stage = Stage()
        stage.endpoint.manual = True
        client = stage.client(post(b"x" * 9)[:-3])
        stage.endpoint.finish(error.ConnectionRefusedError())
        self.assertIn(b"\r\nConnection: close\r\n", client.received())
        self.assertTrue(client.closed)
        self.assertEqual(stage.problems(), [])

    def test_no_head_in_time(self) -> None:
        """`head_timeout` counts from the last byte of the request that has gone."""
        stage = Stage(limits=limits(head_timeout=30.0))
        client = stage.client(post(b"x" * 2)[:-2])
        stage.pass_time(20)
        client.deliver(b"xx")
        stage.pass_time(29)
        self.assertEqual(client.received(), b"")
        stage.pass_time(2)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n"))
        self.assertTrue(stage.upstream.aborted)
        self.assertEqual(stage.capture.outcome, "upstream_timeout")
        self.assertEqual(stage.problems(), [])

    def test_malformed_heads(self) -> None:
        """A malformed response is a 502, and its connection is dropped."""
        for head in (
            b"garbage\r\n\r\n",
            b"g",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 1001 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + b"x" * 270000,
        ):
            with self.subTest(head[:60]):
                stage = Stage()
                client = stage.client(get())
                stage.upstream.deliver(head)
                stage.turn()
                self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
                self.assertTrue(stage.upstream.aborted)
                self.assertEqual(stage.capture.outcome, "protocol_error")
                self.assertEqual(stage.problems(), [])

    def test_closed_without_an_answer(self) -> None:
        """A new connection that ends before any byte: 502, with the outcome that tells how."""
        for end, outcome in ((Wire.fin, "upstream_closed"), (Wire.rst, "upstream_reset")):
            stage = Stage()
            client = stage.client(post(b"x"))
            end(stage.upstream)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
            self.assertEqual(stage.capture.outcome, outcome)
            self.assertEqual(stage.problems(), [])

    def test_the_next_request(self) -> None:
        """After a failure the client's connection serves the next request as if nothing had been."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.rst()
        client.received()
        client.deliver(get("/api/2"))
        self.assertEqual(len(stage.endpoint.wires), 2)
        self.assertTrue(stage.upstream.received().startswith(b"GET /2 "))

    def test_answer_to_head(self) -> None:
        """A failure told to a HEAD has the length of the text, and no text."""
        stage = Stage()
        client = stage.client(get().replace(b"GET", b"HEAD"))
        stage.upstream.fin()
        head, end, rest = client.received().partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: ", head)
        self.assertEqual((end, rest), (b"\r\n\r\n", b""))


class HandshakeTests(SynchronousTestCase):
    def test_nothing_before_verification(self) -> None:
        """Not a byte goes to an upstream before TLS has verified it."""
        stage = Stage(secure=True)
        stage.client(get())
        self.assertEqual(stage.upstream.received(), b"")
        stage.upstream.handshake()
        self.assertTrue(stage.upstream.received().startswith(b"GET /x "))

    def test_fails(self) -> None:
        """However a handshake ends, it is tls_failed, with the reason, and nothing was sent."""
        for reason, why in (
            (error.ConnectionDone(), "the connection was closed during the TLS handshake"),
            (error.ConnectionLost(), "the connection was lost during the TLS handshake"),
            (SSL.Error([("ssl", "", "bad"), ("", "", "worse")]), "TLS: bad; worse"),
            (SSL.Error([("ssl", "", "wrong version number")]), "TLS: what listens there does not speak TLS"),
            (CertificateRefused("the certificate is self-signed"), "the certificate is self-signed"),
        ):
            stage = Stage(secure=True)
            client = stage.client(get())
            stage.upstream._lose(Failure(reason))
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
            self.assertEqual((stage.capture.outcome, stage.capture.error), ("tls_failed", why))
            self.assertEqual(stage.upstream.received(), b"")
            self.assertEqual(stage.problems(), [])

    def test_in_time(self) -> None:
        """TCP and TLS together have `connect_timeout`."""
        stage = Stage(secure=True, limits=limits(connect_timeout=10.0))
        stage.endpoint.manual = True
        client = stage.client(get())
        stage.pass_time(6)
        stage.endpoint.finish()
        stage.pass_time(3.5)
        self.assertEqual(client.received(), b"")
        stage.pass_time(1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 504 "))
        self.assertEqual(stage.capture.outcome, "tls_failed")
        self.assertEqual(stage.problems(), [])
