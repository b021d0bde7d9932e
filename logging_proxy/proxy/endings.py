"""The records at the beginning and at the end of an exchange."""

from __future__ import annotations

import json

from logging_proxy.recording.records import OUTCOMES, Flag, Kind


def request_records(
    start: bytes, payload: bytes, done: bool, trailers: bytes
) -> tuple[tuple[int, int, bytes], ...]:
    """A request's head, whose record has the payload `start`, and the part of its body that came with it."""
    records: tuple[tuple[int, int, bytes], ...] = ((int(Kind.REQUEST_HEAD), 0, start),)
    if payload or done:
        records += ((int(Kind.REQUEST_PIECE), int(Flag.LAST) if done else 0, payload),)
    if trailers:
        records += ((int(Kind.REQUEST_TRAILERS), 0, trailers),)
    return records


def end_record(outcome: str, error: str = "") -> tuple[int, int, bytes]:
    """The END record of an exchange; `outcome` is one of `OUTCOMES`."""
    return (int(Kind.END), 0, bytes([OUTCOMES.index(outcome)]) + error.encode())


def refused_record(kind: Kind, kept: bytes) -> tuple[tuple[int, int, bytes], ...]:
    """The bytes `kept`, received and not passed on, as a piece of `kind`; no record if there are none."""
    return ((int(kind), int(Flag.REFUSED), kept),) if kept else ()


def last_records(request_done: bool) -> tuple[tuple[int, int, bytes], ...]:
    """The records that are stored together with a response's last byte."""
    return (COMPLETE,) if request_done else (ANSWERED_EARLY, COMPLETE)


COMPLETE = end_record("complete")

ANSWERED_EARLY = (
    int(Kind.NOTE),
    0,
    json.dumps({"request": "answered before the request's body was complete"}).encode(),
)
"""Recorded before the END of an exchange whose request has no LAST piece."""
