"""Why a connection failed, in words."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.tls.reasons import TLSTrouble, explain, tls_trouble, trouble_with_client

NOT_TLS, CERTIFICATE, OTHER = TLSTrouble.NOT_TLS, TLSTrouble.CLIENT_CERTIFICATE, TLSTrouble.OTHER

WITH_SERVERS = [
    # what OpenSSL says, the kind, and the words
    (
        "wrong version number",
        NOT_TLS,
        "what listens there does not speak TLS; if it speaks plain HTTP, write",
    ),
    ("packet length too long", NOT_TLS, "what listens there does not speak TLS"),
    ("tlsv13 alert certificate required", CERTIFICATE, "it requires a client certificate"),
    ("ssl/tls alert bad certificate", CERTIFICATE, "it refuses our client certificate (bad certificate)"),
    (
        "sslv3 alert certificate unknown",
        CERTIFICATE,
        "it refuses our client certificate (certificate unknown)",
    ),
    ("tlsv1 alert unknown ca", CERTIFICATE, "it refuses our client certificate (unknown ca)"),
    ("tls alert handshake failure", OTHER, "there is no common cipher, or it requires a client certificate"),
    (
        "sslv3 alert handshake failure",
        OTHER,
        "there is no common cipher, or it requires a client certificate",
    ),
    ("tlsv1 alert protocol version", OTHER, "it speaks none of our versions of TLS, which are 1.2 and 1.3"),
    ("tlsv1 unrecognized name", OTHER, "it does not know the name that it was asked for"),
    ("tlsv1 alert internal error", OTHER, "tlsv1 alert internal error"),
    ("something new", OTHER, "something new"),
]

WITH_CLIENTS = [
    ("tlsv1 alert unknown ca", "the client does not accept the certificate (unknown ca)"),
    ("sslv3 alert certificate unknown", "the client does not accept the certificate (certificate unknown)"),
    ("unsupported protocol", "the client speaks older versions of TLS only (unsupported protocol)"),
    ("no shared cipher", "no shared cipher"),
]

CONNECTIONS: list[tuple[Exception, str]] = [
    (error.ConnectionRefusedError(111, "x"), "connection refused"),
    (error.NoRouteError(101), "no route to the host"),
    (error.TCPTimedOutError(110), "the connection attempt timed out"),
    (error.ConnectError(113), "no route to host"),
    (error.ConnectError(), "no connection"),
    (error.TimeoutError(), "timed out"),
    (error.TimeoutError("no connection within 3 s"), "no connection within 3 s"),
    (error.DNSLookupError("no such host: a"), "no such host: a"),
    (error.DNSLookupError(), "the name cannot be resolved"),
    (error.ConnectionDone(), "the connection was closed"),
    (error.ConnectionLost("x"), "the connection was reset"),
    (error.ConnectionAborted(), "the connection was reset"),
    (CancelledError(), "given up"),
    (ValueError("two\nlines"), "two lines"),
    (ValueError(), "ValueError"),
]


def said(*reasons: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", reason) for reason in reasons])


class ReasonTests(SynchronousTestCase):
    def test_servers(self) -> None:
        """What a destination objects to, and whether it is TLS at all."""
        for reason, kind, words in WITH_SERVERS:
            found, text = tls_trouble(said(reason))
            self.assertEqual(found, kind, reason)
            self.assertTrue(text.startswith(words), text)
            self.assertEqual(explain(Failure(said(reason))), f"TLS: {text}")

    def test_several(self) -> None:
        """The first alert counts, whatever else there is; without one everything is told."""
        self.assertEqual(tls_trouble(said("x", "tlsv13 alert certificate required"))[0], CERTIFICATE)
        self.assertEqual(tls_trouble(said("a", "b")), (OTHER, "a; b"))

    def test_nothing_is_said(self) -> None:
        """OpenSSL may give no reason."""
        for nothing in (SSL.Error(), SSL.Error([]), SSL.SysCallError(-1, "Unexpected EOF")):
            self.assertEqual(explain(Failure(nothing)), "TLS: connection lost")
            self.assertEqual(trouble_with_client(nothing), "no reason is given")

    def test_clients(self) -> None:
        """What a client objects to."""
        for reason, words in WITH_CLIENTS:
            self.assertEqual(trouble_with_client(said(reason)), words)

    def test_connections(self) -> None:
        """In one line, and in words of ours."""
        for failure, words in CONNECTIONS:
            self.assertEqual(explain(Failure(failure)), words, repr(failure))
