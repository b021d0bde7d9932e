"""
The mapping of failures to kinds of errors, and the texts for the client and the capture.

The client's text names the destination and the reason in this software's words: nothing from a peer, and no
secret.  The capture also has the faulty line.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from logging_proxy.http.faults import (
    HandshakeFailed,
    HandshakeTimeout,
    MessageFault,
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
from logging_proxy.proxy.error_kinds import KINDS, ErrorKind, kind_of_fault
from logging_proxy.tls.reasons import explain, tls_trouble
from logging_proxy.tls.verification import CertificateRefused


class Shutdown(Exception):
    """The proxy ended before the exchange did."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of a failure: `reason` is for the client, `error` for the capture."""

    kind: ErrorKind
    reason: str
    error: str

    @property
    def outcome(self) -> str:
        return self.kind.outcome

    @property
    def status(self) -> int:
        return self.kind.status

    def message(self, destination: str) -> str:
        """What a client is told whose request was for `destination`."""
        words = _MESSAGES.get(self.kind.code) or _MESSAGES.get(self.kind.outcome, "{reason}")
        return words.format(destination=destination, reason=self.reason)


_MESSAGES = {
    "connect_failed": "cannot connect to {destination}: {reason}",
    "tls_failed": "no TLS connection with {destination}: {reason}",
    "upstream_closed": "{destination} closed the connection without an answer",
    "upstream_reset": "{destination} reset the connection without an answer",
    "upstream_timeout": "no answer from {destination}: {reason}",
    **{
        f"outbound_proxy_{what}": "cannot connect to {destination} through the outbound proxy: {reason}"
        for what in ("unreachable", "credentials", "timeout", "failed")
    },
    "shutting_down": "the proxy is shutting down",
    "upstream_malformed": "the answer of {destination} is malformed: {reason}",
}
"""By codes or outcomes; all other errors are told by their reasons alone."""

_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (LeadsToOurselves, "leads_to_proxy"),
    (ProxyTimedOut, "outbound_proxy_timeout"),
    (ProxyAuthenticationFailed, "outbound_proxy_credentials"),
    (ProxyUnreachable, "outbound_proxy_unreachable"),
    (ProxyConnectFailed, "outbound_proxy_failed"),
    (error.TimeoutError, "connect_timeout"),
    (error.TCPTimedOutError, "connect_timeout"),
    (CancelledError, "connect_timeout"),
    (HandshakeTimeout, "tls_timeout"),
    (HandshakeFailed, "tls_failed"),
    (SSL.Error, "tls_failed"),
    (CertificateRefused, "certificate_refused"),
    (error.DNSLookupError, "name_not_found"),
    (error.ConnectionRefusedError, "connection_refused"),
    (error.NoRouteError, "unreachable"),
    (error.ConnectError, "connect_failed"),
    (Shutdown, "shutting_down"),
    (RequestFault, "bad_request"),
    (UpstreamTimeout, "upstream_timeout"),
    (ResponseFault, "upstream_malformed"),
    (error.ConnectionDone, "upstream_closed"),
    (error.ConnectionLost, "upstream_reset"),
    (error.ConnectionAborted, "upstream_reset"),
)

_ERRORS = {
    "upstream_closed": "the destination closed the connection without an answer",
    "upstream_reset": "the destination reset the connection without an answer",
}


def verdict(failure: Failure) -> Verdict:
    """
    The verdict on an exchange that `failure` has ended on the upstream's side, without a response.

    A failure that is not in the table is a fault of the proxy: 500, and the outcome `interrupted`.
    """
    code = next((code for kind, code in _KINDS if failure.check(kind)), "")
    if not code:
        text = f"internal error: {type(failure.value).__name__}"
        return Verdict(KINDS["internal_error"], "internal error of the proxy", text)
    kind, value = _refined(KINDS[code], failure.value), failure.value
    text = _ERRORS.get(code) or explain(failure)
    return Verdict(kind, value.reason if isinstance(value, MessageFault) else text, text)


def _refined(kind: ErrorKind, value: BaseException | None) -> ErrorKind:
    """The kind that says most about an exception whose class leaves it open."""
    if isinstance(value, CertificateRefused):
        return KINDS[f"certificate_{value.objection.value}"]
    if isinstance(value, SSL.Error):
        return KINDS[tls_trouble(value)[0].value]
    if isinstance(value, RequestFault):
        return kind_of_fault(value.status)
    if isinstance(value, error.ConnectError) and value.osError == errno.EHOSTUNREACH:
        return KINDS["unreachable"]
    return kind


def refused_request(fault: RequestFault) -> Verdict:
    """The verdict on a request whose body is malformed, or does not come."""
    return Verdict(kind_of_fault(fault.status), fault.reason, f"client: {fault}")


def cut_short(failure: Failure, size: int, seconds: float, lacking: str) -> Verdict:
    """
    The verdict on a response that has begun and will not become complete.

    It has come to `size` bytes, `seconds` after the request; `lacking` says what is known to be missing.
    """
    found = verdict(failure)
    verb = {"upstream_closed": "closed", "upstream_reset": "reset the connection"}.get(found.kind.code)
    if verb is None:
        return found
    text = f"the destination {verb} after {size} B and {seconds:.3f} s"
    return Verdict(found.kind, found.reason, f"{text}, {lacking}" if lacking else text)
