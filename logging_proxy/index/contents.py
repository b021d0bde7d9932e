"""
The bodies of an exchange, read for the index: their text, and their JSON values.

The text is that of the first `BODY_LIMIT` bytes.  The members of a JSON object that tell model and session
are looked for in all of a longer body, which is not kept in memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

from logging_proxy.index.recorded import RecordedHalf
from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.conversation import Known, none_known
from logging_proxy.understanding.decoding import Decoder, Limits, coding_by_bytes, codings_of, decode
from logging_proxy.understanding.facts import MEMBERS
from logging_proxy.understanding.json_top_level import TopLevel
from logging_proxy.understanding.text import Content, read_content, read_messages
from logging_proxy.understanding.websocket import agreed_deflate

BODY_LIMIT = 16 << 20
"""Maximum bytes of a body that are read for its text, both before and after decoding."""

MEMBERS_LIMIT = 256 << 20
"""Maximum bytes of a body in which members are looked for, both before and after decoding."""

_AT_ONCE = 1 << 20
"""Bytes that are read at once of the rest of a long body."""

_MEMBERS_SECONDS = 4.0
"""Processor time for the members of one body: a limit for hostile ones, not for long ones."""

_LIMITS = Limits(output=BODY_LIMIT, seconds=1.0)
_MEMBERS_LIMITS = Limits(output=MEMBERS_LIMIT, seconds=_MEMBERS_SECONDS)
_NOTHING = Content()


ReadBody = Callable[..., bytes]
"""
Takes the name of a `.bin` file, a maximum and optionally an offset; returns these bytes of its body, none if
they are not there or unreadable.
"""


def content_of(half: RecordedHalf | None, read_body: ReadBody, known: Known = none_known) -> Content:
    """
    The text and the JSON values of a half's body; empty if it has none.

    `known` tells what of a long conversation is indexed.
    """
    if half is None or not half.body_size:
        return _NOTHING
    body = half.body or (read_body(half.file, BODY_LIMIT) if half.file else b"")
    body = body[: half.body_size]
    if half.websocket is not None:
        # Only a response has a status.
        deflate = agreed_deflate(half.websocket, from_client=half.status is None)
        return read_messages(body, deflate, half.body_size > BODY_LIMIT)
    coding = half.headers.get("content-encoding") or coding_by_bytes(body)
    content = _read(body, half, coding, known)
    if not content.documents and (members := _members(body, half, coding, read_body)):
        return content._replace(documents=[members])
    return content


def _read(body: bytes, half: RecordedHalf, coding: str, known: Known) -> Content:
    """Text and values of a half's `body`, which is the whole or the start."""
    cut = half.body_size > BODY_LIMIT
    if coding:
        decoded = decode(body, coding, _LIMITS, thread_time)
        body, cut = decoded.data, cut or decoded.truncated
    return read_content(body, half.headers.get("content-type", ""), cut, known=known)


def _members(start: bytes, half: RecordedHalf, coding: str, read_body: ReadBody) -> dict[str, Any]:
    """The `MEMBERS` of a JSON object that could not be parsed whole: it is long, deep, cut or not valid."""
    found, allowance = TopLevel(MEMBERS), Allowance(_MEMBERS_SECONDS)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in _decoded(_pieces(start, half, read_body), coding):
        if not allowance.spend(len(piece)):
            break
        found.feed(decoder.decode(piece))
        if found.is_over:
            break
    return found.members


def _pieces(start: bytes, half: RecordedHalf, read_body: ReadBody) -> Iterator[bytes]:
    """The body in pieces, of which `start` was read before."""
    for at in range(0, len(start), _AT_ONCE):
        yield start[at : at + _AT_ONCE]
    end, at = min(half.body_size, MEMBERS_LIMIT), len(start)
    while half.file and BODY_LIMIT <= at < end:
        piece = read_body(half.file, min(_AT_ONCE, end - at), at)
        if not piece:
            return
        yield piece
        at += len(piece)


def _decoded(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    if not codings_of(coding):
        yield from pieces
        return
    decoder = Decoder(coding, _MEMBERS_LIMITS, thread_time)
    for piece in pieces:
        yield from decoder.feed(piece)
        if decoder.trouble:
            return
