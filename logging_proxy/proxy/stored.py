"""The records of an exchange: at its beginning, for the pieces of its bodies, and at its end."""

from __future__ import annotations

import json

from logging_proxy.http.bodies import Piece
from logging_proxy.recording.records import OUTCOMES, Flag, Kind

Records = tuple[tuple[int, int, bytes], ...]

REQUEST_PIECE, RESPONSE_PIECE = int(Kind.REQUEST_PIECE), int(Kind.RESPONSE_PIECE)
_REQUEST_HEAD, _RESPONSE_HEAD = int(Kind.REQUEST_HEAD), int(Kind.RESPONSE_HEAD)
_TRAILERS = {REQUEST_PIECE: int(Kind.REQUEST_TRAILERS), RESPONSE_PIECE: int(Kind.RESPONSE_TRAILERS)}
_LAST = int(Flag.LAST)


def piece_records(kind: int, piece: Piece, trailers: bytes) -> Records:
    """
    The records of a piece of `kind`, which is `REQUEST_PIECE` or `RESPONSE_PIECE`.

    `trailers` are those of the piece that are recorded: as they came, or as they go on.
    """
    if not piece.last:
        return ((kind, 0, piece.content),) if piece.content else ()
    if trailers:
        return (kind, _LAST, piece.content), (_TRAILERS[kind], 0, trailers)
    return ((kind, _LAST, piece.content),)


def request_records(start: bytes, piece: Piece, trailers: bytes) -> Records:
    """A request's head, whose record has the payload `start`, and the piece that came with it."""
    return ((_REQUEST_HEAD, 0, start), *piece_records(REQUEST_PIECE, piece, trailers))


def response_records(head: bytes, piece: Piece, request_done: bool) -> Records:
    """
    A response's head, or its last piece and the exchange's end, or all of it.

    `head` is empty if it was recorded before.
    """
    records = piece_records(RESPONSE_PIECE, piece, piece.trailers)
    if head:
        records = ((_RESPONSE_HEAD, 0, head), *records)
    if piece.last:
        records += _END if request_done else _EARLY_END
    return records


def refused_record(kind: Kind, kept: bytes) -> Records:
    """The bytes `kept`, received and not passed on, as a piece of `kind`; no record if there are none."""
    return ((int(kind), int(Flag.REFUSED), kept),) if kept else ()


def end_record(outcome: str, error: str = "") -> tuple[int, int, bytes]:
    """The END record of an exchange; `outcome` is one of `OUTCOMES`."""
    return (int(Kind.END), 0, bytes([OUTCOMES.index(outcome)]) + error.encode())


COMPLETE = end_record("complete")

ANSWERED_EARLY = (
    int(Kind.NOTE),
    0,
    json.dumps({"request": "answered before the request's body was complete"}).encode(),
)
"""Recorded before the END of an exchange whose request has no LAST piece."""

_END, _EARLY_END = (COMPLETE,), (ANSWERED_EARLY, COMPLETE)
