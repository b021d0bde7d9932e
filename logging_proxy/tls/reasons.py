"""Why a connection failed, in words: the reasons of OpenSSL, Twisted and the system."""

from __future__ import annotations

import enum
import os
import re

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure


class TLSTrouble(enum.Enum):
    """What kind of error of OpenSSL it is, where that makes a difference for the peer's client."""

    NOT_TLS = "not_tls"
    CLIENT_CERTIFICATE = "client_certificate_required"
    OTHER = "tls_failed"


_NOT_TLS = frozenset(
    {
        "http request",
        "https proxy request",
        "packet length too long",
        "record layer failure",
        "unknown protocol",
        "wrong version number",
    }
)
"""What OpenSSL calls bytes that are no record of TLS, by its version."""

_ALERT = re.compile(r"(?:sslv3|tlsv1|tlsv13|tls|ssl/tls) (?:alert )?(.+)")
"""An alert of the peer (RFC 8446 §6), as OpenSSL's versions name it."""

_ABOUT_OUR_CERTIFICATE = frozenset(
    {
        "access denied",
        "bad certificate",
        "certificate expired",
        "certificate revoked",
        "certificate unknown",
        "decrypt error",
        "unknown ca",
        "unsupported certificate",
    }
)
"""Alerts that are about our certificate: a server sends them when we have accepted its own."""

_ALERTS = {
    "handshake failure": "there is no common cipher, or it requires a client certificate (handshake failure)",
    "protocol version": "it speaks none of our versions of TLS, which are 1.2 and 1.3",
    "unrecognized name": "it does not know the name that it was asked for (unrecognized name)",
    "no application protocol": "it does not speak HTTP/1.1 (no application protocol)",
}


def reasons(error: SSL.Error) -> list[str]:
    """OpenSSL's reasons in their order; none if it gives none, or if only the socket failed."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [str(entry[-1]) for entry in entries if entry]


def tls_trouble(error: SSL.Error) -> tuple[TLSTrouble, str]:
    """The kind of an error of a connection to a server, and the error in words."""
    said = reasons(error)
    if _NOT_TLS.intersection(said):
        return (
            TLSTrouble.NOT_TLS,
            "what listens there does not speak TLS; if it speaks plain HTTP, write http://",
        )
    for alert in map(_alert, said):
        if alert == "certificate required":
            return TLSTrouble.CLIENT_CERTIFICATE, "it requires a client certificate"
        if alert in _ABOUT_OUR_CERTIFICATE:
            return TLSTrouble.CLIENT_CERTIFICATE, f"it refuses our client certificate ({alert})"
        if alert in _ALERTS:
            return TLSTrouble.OTHER, _ALERTS[alert]
    return TLSTrouble.OTHER, "; ".join(said) or "connection lost"


def trouble_with_client(error: SSL.Error) -> str:
    """An error of a connection from a client in words."""
    said = reasons(error)
    for alert in map(_alert, said):
        if alert in _ABOUT_OUR_CERTIFICATE:
            return f"the client does not accept the certificate ({alert})"
    if "unsupported protocol" in said:
        return "the client speaks older versions of TLS only (unsupported protocol)"
    return "; ".join(said) or "no reason is given"


def _alert(reason: str) -> str:
    """The peer's alert that a reason of OpenSSL reports; empty if it is none."""
    match = _ALERT.fullmatch(reason)
    return match[1] if match else ""


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (error.ConnectionRefusedError, "connection refused"),
    (error.NoRouteError, "no route to the host"),
    (error.TCPTimedOutError, "the connection attempt timed out"),
    (error.ConnectionDone, "the connection was closed"),
    (error.ConnectionLost, "the connection was reset"),
    (error.ConnectionAborted, "the connection was reset"),
    (CancelledError, "given up"),
)
"""Twisted's texts are for programmers, and name neither side."""


def explain(failure: Failure) -> str:
    """The failure in one line, for the capture and for people."""
    value = failure.value
    if isinstance(value, SSL.Error):
        return f"TLS: {tls_trouble(value)[1]}"
    for kind, words in _WORDS:
        if isinstance(value, kind):
            return words
    if isinstance(value, error.DNSLookupError):
        return _line(*value.args) or "the name cannot be resolved"
    if isinstance(value, error.ConnectError):
        return _of_attempt(value)
    return _line(value) or type(value).__name__


def _of_attempt(failed: error.ConnectError) -> str:
    """Twisted's exceptions of attempts; their first argument is the error's number, or our own words."""
    if isinstance(failed.osError, int):
        return os.strerror(failed.osError).lower()
    if failed.osError:
        return _line(failed.osError)
    return "timed out" if isinstance(failed, error.TimeoutError) else "no connection"


def _line(*words: object) -> str:
    return " ".join(" ".join(map(str, words)).split())
