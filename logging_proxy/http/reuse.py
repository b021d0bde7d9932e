"""Whether, when and for how long a connection may be used again after a response."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from logging_proxy.http.bodies import BodyReader, CloseReader
from logging_proxy.http.heads import ResponseHead

REST = 1.0
"""
Seconds that a connection is left alone after a response that announces a body it must not have.

An upstream that sends that body nevertheless (to a HEAD, with a 304) does so now, and then the
connection is closed; without the rest the body would answer the next request.
"""

MARGIN = 1.0
"""Seconds before the upstream's time-out in which a connection is not used: requests take time to arrive."""

_TIMEOUT = re.compile(rb"(?i)(?:^|[\s,;])timeout[ \t]*=[ \t]*\"?(\d{1,9})(?!\d)")
_WITHOUT_CONTENT = frozenset({204, 205})


@dataclass(frozen=True, slots=True)
class Reuse:
    """The connection may be used for `keep` seconds, but for the first `REST` of them if it has to `rest`."""

    rest: bool = False
    keep: float = math.inf


def reuse_after(head: ResponseHead, method: bytes, body: BodyReader) -> Reuse | None:
    """
    How the connection may be used after this final response to a `method` request; None for not at all.

    The same head always gives the same answer, which is kept with it.
    """
    to_head = method == b"HEAD"
    try:
        known: Reuse | None = head.prepared[to_head]
    except KeyError:
        known = head.prepared[to_head] = _reuse_after(head, to_head, type(body) is CloseReader)
    return known


def contradicts(head: ResponseHead) -> bool:
    """
    Whether a head whose status excludes a body announces one all the same (RFC 9110 §8.6, RFC 9112 §6.1).

    Its sender may or may not send that body.
    """
    return head.chunked or bool(head.content_length)


def _reuse_after(head: ResponseHead, to_head: bool, until_close: bool) -> Reuse | None:
    keep = _announced(head) - MARGIN
    if not head.keep_alive or until_close or keep <= 0:
        return None
    if head.status in _WITHOUT_CONTENT:
        return None if contradicts(head) else Reuse(False, keep)
    if to_head or head.status == 304:
        if head.chunked:
            return None  # a body that is made on the way may come at any time
        announces = head.content_length != 0 if to_head else bool(head.content_length)
        return Reuse(announces, keep)
    return Reuse(False, keep)


def _announced(head: ResponseHead) -> float:
    """The idle seconds after which the upstream announces to close (`Keep-Alive: timeout=5`)."""
    values = head.ruling.get(b"keep-alive", ())
    return min((int(found) for value in values for found in _TIMEOUT.findall(value)), default=math.inf)
