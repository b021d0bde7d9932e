"""Exceptions for faulty messages and failed connections, named by the peer at fault."""

from __future__ import annotations

import re

from twisted.internet import error
from twisted.python.failure import Failure

from logging_proxy.redaction.redact import REDACTED, is_secret_header, redact_url

LONGEST_SHOWN = 160
"""Characters of an offending line that an error text shows."""

_SECRETIVE = re.compile(
    r"(?i)key|auth|bearer|basic|cookie|credential|passw|pwd|secret|session|signature|token|websocket-protocol"
)
"""Words that a secret may follow.  A malformed line cannot be judged by its field name alone."""


class MessageFault(Exception):
    """A message is not acceptable.  `reason` says why, and the exception's text shows the `line` as well."""

    def __init__(self, reason: str, line: bytes = b"") -> None:
        super().__init__(f"{reason}: {shown(line)}" if line else reason)
        self.reason = reason
        self.line = line


class RequestFault(MessageFault):
    """The client sent no acceptable request; it is answered `status` and the connection closed."""

    def __init__(self, status: int, reason: str, line: bytes = b"") -> None:
        super().__init__(reason, line)
        self.status = status


class ResponseFault(MessageFault):
    """The upstream sent no acceptable response; the connection to it is not used again."""


class UpstreamTimeout(Exception):
    """The upstream missed a deadline; the text says which."""


class HandshakeFailed(Exception):
    """The TLS handshake with the destination failed; the text says why."""


class HandshakeTimeout(HandshakeFailed):
    """The TLS handshake with the destination was not complete in time."""


class NotConnected(Exception):
    """An outbound proxy has refused to connect us; `kept` is its response."""

    kept = b""


class ClientGivenUp(Exception):
    """The client missed a deadline, and its connection is reset; the text says which."""


def handshake_failure(reason: Failure) -> Failure:
    """Why there is no secure connection: the error of verification or OpenSSL, or that the peer closed."""
    if reason.check(error.ConnectionDone):
        return Failure(HandshakeFailed("the connection was closed during the TLS handshake"))
    if reason.check(error.ConnectionLost, error.ConnectionAborted):
        return Failure(HandshakeFailed("the connection was lost during the TLS handshake"))
    return reason


def shown(line: bytes) -> str:
    """A faulty line as printable text: shortened, in one line, and without secrets."""
    text = line.removesuffix(b"\r\n").decode("latin-1")
    if text[:1] in (" ", "\t"):
        return f"(a continuation) {REDACTED}"  # of an unknown field, perhaps of a credential
    if not _is_request_line(text):
        text = _without_secrets(text)
    text = redact_url(text[: 4 * LONGEST_SHOWN]).encode("unicode_escape").decode("ascii")
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"


def _without_secrets(text: str) -> str:
    name, colon, _ = text.partition(":")
    if colon and any(is_secret_header(word) for word in name.split()):
        return f"{name}: {REDACTED}"
    found = _SECRETIVE.search(text)
    if found is None:
        return text
    end = text.find(":", found.end()) + 1 or found.end()
    return f"{text[:end]} {REDACTED}"


def _is_request_line(text: str) -> bool:
    """A request target as text; secrets in the query are recognised by their names and removed."""
    return bool(re.match(r"[A-Z]+ (?:/|\*|https?://)", text))
