"""The proxy's response, and the capture's outcome, when the destination gives no response."""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.faults import (
    HandshakeFailed,
    HandshakeTimeout,
    RequestFault,
    ResponseFault,
    UpstreamTimeout,
)
from logging_proxy.outbound.failures import (
    ProxyAuthenticationFailed,
    ProxyConnectFailed,
    ProxyTimedOut,
    ProxyUnreachable,
)
from logging_proxy.outbound.ourselves import LeadsToOurselves
from logging_proxy.proxy.error_kinds import KINDS
from logging_proxy.proxy.failures import Shutdown, verdict
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, post
from logging_proxy.tls.verification import CertificateRefused, Objection

SECRET = "sk-canary"
FIRST = "00010203-0405-4607-8809-0a0b0c0d0e0f"
NOT_TLS = "TLS: what listens there does not speak TLS; if it speaks plain HTTP, write http://"


def alert(reason: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", reason)])


VERDICTS: list[tuple[BaseException, str, str]] = [
    # the failure, its code, and what a client is told
    (error.ConnectionRefusedError(SECRET), "connection_refused", "cannot connect to UP: connection refused"),
    (error.NoRouteError(SECRET), "unreachable", "cannot connect to UP: no route to the host"),
    (error.ConnectError(113, SECRET), "unreachable", "cannot connect to UP: no route to host"),
    (
        error.ConnectError(99, SECRET),
        "connect_failed",
        "cannot connect to UP: cannot assign requested address",
    ),
    (
        error.DNSLookupError("no such host: up.exmaple"),
        "name_not_found",
        "cannot connect to UP: no such host: up.exmaple",
    ),
    (
        error.TimeoutError("no connection within 10 s"),
        "connect_timeout",
        "cannot connect to UP: no connection within 10 s",
    ),
    (
        error.TCPTimedOutError(110, SECRET),
        "connect_timeout",
        "cannot connect to UP: the connection attempt timed out",
    ),
    (CancelledError(), "connect_timeout", "cannot connect to UP: given up"),
    (LeadsToOurselves("::1 is ours"), "leads_to_proxy", "cannot connect to UP: ::1 is ours"),
    (HandshakeFailed("lost"), "tls_failed", "no TLS connection with UP: lost"),
    (HandshakeTimeout("no end"), "tls_timeout", "no TLS connection with UP: no end"),
    (alert("bad"), "tls_failed", "no TLS connection with UP: TLS: bad"),
    (
        alert("wrong version number"),
        "not_tls",
        "no TLS connection with UP: TLS: what listens there does not speak",
    ),
    (
        alert("tlsv13 alert certificate required"),
        "client_certificate_required",
        "no TLS connection with UP: TLS: it requires a client certificate",
    ),
    *(
        (
            CertificateRefused("why", objection),
            f"certificate_{objection.value}",
            "no TLS connection with UP: why",
        )
        for objection in Objection
    ),
    (
        ProxyUnreachable("http://p:1: no"),
        "outbound_proxy_unreachable",
        "cannot connect to UP through the outbound proxy",
    ),
    (
        ProxyAuthenticationFailed("407"),
        "outbound_proxy_credentials",
        "cannot connect to UP through the outbound proxy: 407",
    ),
    (
        ProxyTimedOut("late"),
        "outbound_proxy_timeout",
        "cannot connect to UP through the outbound proxy: late",
    ),
    (
        ProxyConnectFailed("403"),
        "outbound_proxy_failed",
        "cannot connect to UP through the outbound proxy: 403",
    ),
    (Shutdown(SECRET), "shutting_down", "the proxy is shutting down"),
    (
        UpstreamTimeout("no response head within 1 s"),
        "upstream_timeout",
        "no answer from UP: no response head within 1 s",
    ),
    (
        ResponseFault("bad line", b"A: " + SECRET.encode()),
        "upstream_malformed",
        "the answer of UP is malformed: bad line",
    ),
    (error.ConnectionDone(SECRET), "upstream_closed", "UP closed the connection without an answer"),
    (error.ConnectionLost(SECRET), "upstream_reset", "UP reset the connection without an answer"),
    (error.ConnectionAborted(SECRET), "upstream_reset", "UP reset the connection without an answer"),
    (RequestFault(408, "too late", SECRET.encode()), "request_timeout", "too late"),
    (RuntimeError(SECRET), "internal_error", "internal error of the proxy"),
]


class VerdictTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Each failure has its code; a client is told the destination and the reason, in words of ours."""
        for failure, code, told in VERDICTS:
            with self.subTest(repr(failure)):
                found = verdict(Failure(failure))
                self.assertEqual(found.kind.code, code)
                message = found.message("UP")
                self.assertTrue(message.startswith(told), message)
                self.assertNotIn(SECRET, message)
                self.assertTrue(found.error)
                self.assertNotIn("\n", found.error)

    def test_nothing_of_twisted(self) -> None:
        """Twisted's own texts, which name neither side, are nowhere: neither told nor recorded."""
        for kind in (
            error.ConnectionDone,
            error.ConnectionLost,
            error.ConnectionAborted,
            error.ConnectionRefusedError,
            error.NoRouteError,
            error.TCPTimedOutError,
            error.TimeoutError,
            error.DNSLookupError,
            error.ConnectError,
        ):
            found = verdict(Failure(kind()))
            for text in (found.error, found.reason, found.message("UP")):
                self.assertNotIn(kind.MESSAGE, text)

    def test_every_status(self) -> None:
        """A failure that is late is a 504, one that would go round in circles a 508, any other a 502."""
        late = {"connect_timeout", "tls_timeout", "outbound_proxy_timeout", "upstream_timeout"}
        for kind in KINDS.values():
            if kind.outcome in ("connect_failed", "tls_failed", "upstream_timeout"):
                expected = 504 if kind.code in late else 508 if kind.code == "leads_to_proxy" else 502
                self.assertEqual(kind.status, expected, kind.code)

    def test_a_fault_of_ours(self) -> None:
        """Of an unexpected failure only the type is told, even in the capture."""
        self.assertEqual(verdict(Failure(RuntimeError(SECRET))).error, "internal error: RuntimeError")

    def test_malformed_answer(self) -> None:
        """The capture also has the line that is at fault; the client gets nothing of it."""
        found = verdict(Failure(ResponseFault("malformed status line", b"HTTP/9 nonsense")))
        self.assertEqual(found.error, "malformed status line: HTTP/9 nonsense")
        self.assertEqual(found.reason, "malformed status line")


class CutShortTests(SynchronousTestCase):
    """A response that ends too early says how far it has come."""

    def cut(self, head: bytes, end: Callable[[Wire], None]) -> str:
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(b"HTTP/1.1 200 OK\r\n" + head)
        stage.turn(0.855)
        end(stage.upstream)
        stage.turn()
        self.assertEqual(stage.problems(), [])
        return stage.capture.error

    def test_chunked(self) -> None:
        """Size, time, and that the last chunk is missing."""
        head = b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 6 + b"9\r\nhalf"
        told = "after 34 B and 0.855 s, without the last chunk"
        self.assertEqual(self.cut(head, Wire.fin), f"the destination closed {told}")
        self.assertEqual(self.cut(head, Wire.rst), f"the destination reset the connection {told}")

    def test_length(self) -> None:
        """... or how many bytes are missing."""
        told = "the destination closed after 4 B and 0.855 s, with 6 B still to come"
        self.assertEqual(self.cut(b"Content-Length: 10\r\n\r\nhalf", Wire.fin), told)

    def test_until_it_closes(self) -> None:
        """Of a response that ends with its connection nothing is known to be missing but its end."""
        told = "the destination reset the connection after 4 B and 0.855 s"
        self.assertEqual(self.cut(b"\r\nhalf", Wire.rst), told)

    def test_time(self) -> None:
        """A destination that says no more is told by the time that it had."""
        stage = Stage(limits=limits(stream_timeout=30.0))
        stage.client(get())
        stage.upstream.deliver(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        stage.pass_time(31)
        self.assertEqual(stage.capture.error, "no more of the response within 30 s")


class FailureTests(SynchronousTestCase):
    def test_connecting(self) -> None:
        """No connection: destination, reason and the exchange's id, and the client's connection stays."""
        for failure, code, told in VERDICTS[:8]:
            stage = Stage()
            stage.endpoint.failure = failure
            client = stage.client(get())
            received = client.received()
            self.assertTrue(received.startswith(b"HTTP/1.1 %d " % KINDS[code].status))
            told = told.replace("UP", "http://up.example")
            self.assertIn(f"\r\n\r\n{told} (exchange {FIRST})\n".encode(), received)
            self.assertNotIn(SECRET.encode(), received)
            self.assertFalse(client.disconnecting)
            self.assertEqual(stage.capture.outcome, "connect_failed")
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
            (SSL.Error([("ssl", "", "wrong version number")]), NOT_TLS),
            (CertificateRefused("the certificate is self-signed"), "the certificate is self-signed"),
        ):
            stage = Stage(secure=True)
            client = stage.client(get())
            stage.upstream._lose(Failure(reason))
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
            self.assertEqual((stage.capture.outcome, stage.capture.error), ("tls_failed", why))
            self.assertEqual(stage.upstream.received(), b"")
            self.assertEqual(stage.problems(), [])

    def test_client_certificate(self) -> None:
        """A TLS 1.3 server asks for one after the handshake, as we see it: when the request has been sent."""
        stage = Stage(secure=True)
        client = stage.client(get())
        stage.upstream.handshake()
        stage.upstream._lose(Failure(alert("tlsv13 alert certificate required")))
        self.assertIn(
            b"no TLS connection with http://up.example: TLS: it requires a client cert", client.sent
        )
        self.assertEqual(stage.capture.outcome, "tls_failed")
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
