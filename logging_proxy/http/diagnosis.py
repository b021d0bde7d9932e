"""
Diagnosis of malformed heads.

While a head is arriving, it is only checked whether the bytes so far can still become a valid head.  Once
it is refused, the first faulty line determines the error, so that the error does not depend on how TCP
cut the bytes.
"""

from __future__ import annotations

import re

from logging_proxy.http import grammar
from logging_proxy.http.faults import RequestFault, ResponseFault
from logging_proxy.http.heads import parse_request_head, parse_response_head, request_line_fault


def is_faulty_so_far(begun: bytes, known: int) -> bool:
    """
    Whether no valid request head can begin with `begun`.

    Its first `known` bytes were checked before.
    """
    # A bare LF is refused at once: its sender expects a response, while we would wait for a CRLF.
    if not 0x21 <= begun[0] <= 0x7E or grammar.stray_line_end.search(begun, max(0, known - 3)):
        return True
    end = begun.find(b"\n")
    return end >= max(0, known - 2) and request_line_fault(begun[: end - 1]) is not None


def request_fault(begun: bytes, most_fields: int, limit: int) -> RequestFault:
    """
    The fault in a request's head that is malformed, incomplete or too long.

    It is that of the first faulty line, and so does not depend on how the bytes were cut.
    """
    if begun.startswith(_TLS):
        return RequestFault(400, "TLS on a port that speaks plain HTTP: use http:// in the URL")
    head, complete = _head_of(begun)
    first, *fields = _LINES.findall(head)
    if not first.endswith(b"\n"):
        if len(begun) >= limit:
            return RequestFault(414, "request head too long")
        return RequestFault(400, "malformed request line", first)
    fault = request_line_fault(first[:-2] if first.endswith(b"\r\n") else first)
    if fault is not None:
        return fault
    whole = [line for line in fields if line.endswith(b"\n")]
    for line in whole[:-1] if complete else whole:
        if not grammar.STRICT_CHUNKS.field_line.fullmatch(line):
            return RequestFault(400, "malformed header field", line)
    if not complete or len(head) > limit:
        if len(begun) >= limit:
            return RequestFault(431, "request head too long")
        return RequestFault(400, "malformed header field", fields[-1] if fields else b"")
    try:
        parse_request_head(head, most_fields)
    except RequestFault as found:
        return found
    return RequestFault(400, "malformed request head")


_TLS = b"\x16\x03"
"""How each version of TLS begins: a record of a handshake (RFC 8446 §5.1)."""

_LINES = re.compile(rb"[^\n]*+\n|[^\n]++")


def _head_of(begun: bytes) -> tuple[bytes, bool]:
    """The part of `begun` that belongs to the head, and whether the head is complete."""
    end = begun.find(b"\r\n\r\n") + 4
    return (begun[:end], True) if end >= 4 else (begun, False)


def is_faulty_response_so_far(begun: bytes, known: int) -> bool:
    """
    Whether no valid response head can begin with `begun`.

    Its first `known` bytes were checked before.
    """
    if not begun.startswith(b"HTTP/1."[: len(begun)]):
        return True
    if grammar.stray_line_end.search(begun, max(0, known - 1)):
        return True
    end = begun.find(b"\r\n") + 2
    return end >= max(2, known) and not grammar.response_head.fullmatch(begun[:end] + b"\r\n")


def response_fault(begun: bytes, most_fields: int, limit: int) -> ResponseFault:
    """
    The fault in a response's head that is malformed, incomplete or too long.

    It is that of the first faulty line, and so does not depend on how the bytes were cut.
    """
    head, complete = _head_of(begun)
    first, *fields = _LINES.findall(head)
    if not begun.startswith(b"HTTP/1."[: len(begun)]):
        return ResponseFault("not an HTTP/1.1 response", first)
    if first.endswith(b"\n") and not grammar.response_head.fullmatch(first + b"\r\n"):
        return ResponseFault("malformed status line", first)
    whole = [line for line in fields if line.endswith(b"\n")]
    for line in whole[:-1] if complete else whole:
        if not grammar.LENIENT_CHUNKS.field_line.fullmatch(line):
            return ResponseFault("malformed header field", line)
    if not complete or len(head) > limit:
        if len(begun) >= limit:
            return ResponseFault("response head too long")
        return ResponseFault("malformed response head", (fields or [first])[-1])
    try:
        parse_response_head(head, most_fields)
    except ResponseFault as found:
        return found
    return ResponseFault("malformed response head")
