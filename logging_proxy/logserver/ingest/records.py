"""
From the pieces of a spool's stream to records, with recovery after damage.

Where bytes are missing or are no valid records, `RecordStream` yields a `Damage` and resynchronises at the
next place that looks like a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.recording.records import HEADER, MAX_PAYLOAD, Flag, Kind, Record, RecordReader, SpoolDamage
from logging_proxy.recording.tail import Piece

_LAST_KIND = max(Kind)
_LIKE_A_HEADER = re.compile(
    rb"(?s)(?=...[\x00\x01][\x00-\x%02x][\x00-\x%02x]\x00\x00.{5}\x00{3}(?!\x00{8}).{7}[\x00-\x0f])"
    % (_LAST_KIND, sum(Flag))
)
"""A fast filter for the places at which `_believable` is worth calling; runs of zeros never match."""

_NEVER_EMPTY = {Kind.SESSION, Kind.REQUEST_HEAD, Kind.RESPONSE_HEAD, Kind.END, Kind.LOST}

_OF_NO_EXCHANGE = {Kind.SESSION, Kind.LOST}

LATEST = 1 << 60
"""The latest plausible monotonic clock, in nanoseconds: 36 years."""

MOST_EXCHANGES = 1 << 40

CHAIN = 4
"""The number of consecutive valid headers that make a place believable."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of the spool, between the records before and after this."""

    reason: str
    missing: bool = True
    """Whether bytes of the stream are missing or unreadable; false if the damage affects none of them."""


class RecordStream:
    """
    Takes pieces in order, yields records and damages.

    `offset` is the position after the last yielded record, from which to continue after a restart.  With
    None the first piece determines where the stream begins, which may be inside a record.
    """

    def __init__(self, offset: int | None = None) -> None:
        self._reader = RecordReader()
        self._base = offset
        self._expected = offset
        self._lost = False
        self._carry = b""

    @property
    def offset(self) -> int | None:
        if self._lost and self._expected is not None:
            return self._expected - len(self._carry)
        return None if self._base is None else self._base + self._reader.consumed

    def feed(self, piece: Piece) -> Iterator[Record | Damage]:
        """The records that `piece` completes.  Exhaust the iterator."""
        start, data = piece.start, piece.data
        if self._expected is None:
            self._begin(start)
            self._lost = start != 0
            if piece.damaged:
                yield Damage(f"the spool is damaged before {start}, where it begins")
        elif start != self._expected:
            yield Damage(f"{start - self._expected} bytes of the spool are missing at {self._expected}")
            self._lose()
        elif piece.damaged:
            yield Damage(
                f"a block of the spool is damaged at {start}, and no byte of the stream is missing", False
            )
        self._expected = start + len(data)
        while data:
            if self._lost:
                start, data = self._resume(start - len(self._carry), self._carry + data)
            try:
                yield from self._reader.feed(data)
                return
            except SpoolDamage as damage:
                yield Damage(str(damage))
                skip = max(0, (self.offset or 0) + 1 - start)
                start, data = start + skip, data[skip:]
                self._lose()

    def _begin(self, base: int) -> None:
        self._reader, self._base = RecordReader(), base
        self._lost, self._carry = False, b""

    def _lose(self) -> None:
        self._lost, self._carry = True, b""

    def _resume(self, start: int, data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """`data` from its first believable record on; empty if it has none."""
        at = find_record(data)
        if at is None:
            self._carry = bytes(data[-(HEADER.size - 1) :])
            return start, b""
        self._begin(start + at)
        return start + at, data[at:]


def find_record(data: bytes | memoryview) -> int | None:
    """The position of the first believable record in `data`; None without one."""
    for match in _LIKE_A_HEADER.finditer(data):
        if _believable(data, match.start()):
            return match.start()
    return None


def _believable(data: bytes | memoryview, at: int) -> bool:
    if len(data) - at < HEADER.size:
        return False
    for _ in range(CHAIN):
        if len(data) - at < HEADER.size:
            return True
        length, kind, _flags, unused, exchange, time = HEADER.unpack_from(data, at)
        if length > MAX_PAYLOAD or kind > _LAST_KIND or unused:
            return False
        if not 0 < time < LATEST or exchange > MOST_EXCHANGES or (kind in _NEVER_EMPTY and not length):
            return False
        if (exchange == 0) != (kind in _OF_NO_EXCHANGE):
            return False
        at += HEADER.size + length
    return True
