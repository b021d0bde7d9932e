"""
The mapping of failures to an exchange's outcome, the status, and the text for the client.

The text names the exchange and the kind of failure, and nothing from an exception, an address or a header.
The capture has the details.
"""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

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
from logging_proxy.tls.reasons import explain
from logging_proxy.tls.verification import CertificateRefused


class Shutdown(Exception):
    """The proxy ended before the exchange did."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome` and `error` are for the capture, `status` and `text` for the client."""

    outcome: str
    status: int
    text: str
    error: str


_CONNECTING: tuple[tuple[type[BaseException], str, int, str], ...] = (
    (LeadsToOurselves, "connect_failed", 508, "the destination is the proxy itself or its logging server"),
    (ProxyTimedOut, "connect_failed", 504, "the outbound proxy did not connect in time"),
    (ProxyAuthenticationFailed, "connect_failed", 502, "the outbound proxy requires other credentials"),
    (ProxyUnreachable, "connect_failed", 502, "the outbound proxy could not be reached"),
    (ProxyConnectFailed, "connect_failed", 502, "the outbound proxy did not connect to the destination"),
    (error.TimeoutError, "connect_failed", 504, "the destination could not be reached in time"),
    (error.TCPTimedOutError, "connect_failed", 504, "the destination could not be reached in time"),
    (CancelledError, "connect_failed", 504, "the destination could not be reached in time"),
    (HandshakeTimeout, "tls_failed", 504, "no secure connection to the destination in time"),
    (HandshakeFailed, "tls_failed", 502, "no secure connection to the destination"),
    (SSL.Error, "tls_failed", 502, "no secure connection to the destination"),
    (CertificateRefused, "tls_failed", 502, "no secure connection to the destination"),
    (error.DNSLookupError, "connect_failed", 502, "the destination's name could not be resolved"),
    (error.ConnectError, "connect_failed", 502, "the destination could not be reached"),
)

_WAITING: tuple[tuple[type[BaseException], str, int, str], ...] = (
    (Shutdown, "interrupted", 503, "the proxy is shutting down"),
    (RequestFault, "protocol_error", 400, "the request is malformed"),
    (UpstreamTimeout, "upstream_timeout", 504, "the destination did not answer in time"),
    (ResponseFault, "protocol_error", 502, "the destination's answer is malformed"),
    (error.ConnectionDone, "upstream_closed", 502, "the destination closed the connection without an answer"),
    (error.ConnectionLost, "upstream_reset", 502, "the destination reset the connection"),
    (error.ConnectionAborted, "upstream_reset", 502, "the destination reset the connection"),
)


def verdict(failure: Failure) -> Verdict:
    """
    The verdict on an exchange that `failure` has ended on the upstream's side.

    A failure in neither table is a fault of the proxy: 500, and the outcome `interrupted`.
    """
    for kind, outcome, status, text in _CONNECTING + _WAITING:
        if failure.check(kind):
            return Verdict(outcome, status, text, explain(failure))
    return Verdict("interrupted", 500, "internal error", f"internal error: {type(failure.value).__name__}")
