"""Responses of the engine itself, to input that never becomes an exchange."""

from __future__ import annotations

from email.utils import formatdate

REASONS = {
    200: b"OK",
    307: b"Temporary Redirect",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}


def own_answer(status: int, text: str, seconds: float) -> bytes:
    """A whole plain-text answer of ours that closes the connection; `seconds` since 1970."""
    body = text.encode() + b"\n"
    lines = (
        b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b"Error")),
        b"Date: " + formatdate(seconds, usegmt=True).encode(),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"",
        body,
    )
    return b"\r\n".join(lines)
