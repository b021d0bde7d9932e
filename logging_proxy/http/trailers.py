"""Which field lines concern a single connection, and which trailer lines go on to the next one."""

from __future__ import annotations

from logging_proxy.http.heads import without_blanks

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""The list of Go's ReverseProxy, of RFC 2616 §13.5.1, RFC 7540 §3.2.1, and the fields that clients send."""

_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"max-forwards",
        b"set-cookie",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    }
)
"""
Fields for framing, routing, credentials and the format of the content (RFC 9110 §6.5.1).

A receiver that merges trailers into the head could otherwise change its mind about a message that it has
read already.
"""


def end_to_end(section: bytes, options: frozenset[bytes]) -> bytes:
    """The lines of a trailer section that are passed on; `options` are the message's connection options."""
    dropped = _NOT_IN_TRAILERS | options
    lines = [without_blanks(line) for line in section.splitlines(keepends=True)]
    return b"".join(line for line in lines if line.partition(b":")[0].lower() not in dropped)
