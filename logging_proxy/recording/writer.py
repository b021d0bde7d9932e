"""
The writer: stores records in the spool's ring, and reports when there is room again.

It alone decides what happens when the spool is full: wait while the disk
is slow; if the disk refuses, either wait (`block`) or continue without
recording and count the loss (`pass`).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from logging_proxy.net import shortcut
from logging_proxy.recording.records import HEADER, Kind, RecordReader, encode
from logging_proxy.recording.ring import Ring

Passed = Sequence[tuple[int, int, bytes]]
"""
Kind, flags and payload of some records of one exchange.

A payload that was read into memory from `read_buffer` is a view of it, and its record comes alone.
"""

_pack = HEADER.pack
_now = time.monotonic_ns

LEAST_READ_BUFFER = 64 << 10
"""Bytes of the smallest piece read into the ring; smaller ones are cheaper to copy."""

STALL = 30.0
"""Seconds without progress after which an unresponsive disk counts as one that refuses."""

NO_EXCHANGE = 0
"""The number of records that belong to no exchange; they are never discarded."""


@dataclass(slots=True)
class _Losing:
    """The losses of one exchange; `known` if its head is in the spool."""

    known: bool
    bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Exchanges that have lost something, and lost payload bytes (END records not counted)."""

    exchanges: int = 0
    bytes: int = 0


class CaptureWriter:
    """
    Writes records to a ring.  All calls are on the reactor's thread.

    `full` is True while records wait for room: a caller that sees True must not forward
    the bytes it has just recorded until the Deferred of `when_room` fires.
    While `attentive` is True, `spool_moved` must be called whenever the spool has moved.
    """

    _log = Logger()

    def __init__(
        self, ring: Ring, stored: Callable[[], None], pass_on_failure: bool, clock: IReactorTime
    ) -> None:
        """`stored` is called after each store; by `writing` only from the ring's `wake_at` on."""
        self.full = False
        self.attentive = False
        self.failure: str | None = None
        self.lost = Tally()
        self._reported = Tally()
        self._reason = ""
        self._ring = ring
        self._stored = stored
        self._pass_on_failure = pass_on_failure
        self._clock = clock
        self._stall: IDelayedCall | None = None
        ring.tell("")
        self.writing = shortcut.writing(self, ring, stored, _now) if type(ring) is Ring else None
        """The C version of `write` and `read_buffer` for the ordinary case; None without the C extension."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiters: list[Deferred[None]] = []
        self._losing: dict[int, _Losing] = {}
        """Exchanges under way that have lost something."""
        self._ended: deque[tuple[int, int, bytes]] = deque()
        """Such exchanges that have ended since: number, bytes lost, payload of the END record."""

    @property
    def refuses(self) -> bool:
        """Whether new exchanges must be refused: recording fails, and the configuration requires it."""
        return self.failure is not None and not self._pass_on_failure

    def write(self, exchange: int, records: Passed) -> None:
        """Store `records` in order.  The caller then checks `full`."""
        now = _now()
        payload: Any
        if len(records) == 1:  # a piece of a stream
            ((kind, flags, payload),) = records
            if type(payload) is memoryview:
                self._ring.store_read(_pack(len(payload), kind, flags, 0, exchange, now), len(payload))
                self._stored()
                return
            data = _pack(len(payload), kind, flags, 0, exchange, now) + payload
        else:
            pieces: list[bytes] = []
            for kind, flags, payload in records:
                pieces += (_pack(len(payload), kind, flags, 0, exchange, now), payload)
            data = b"".join(pieces)
        ring = self._ring
        if self._waiting or self._losing or len(data) > ring.capacity - ring.stored + ring.taken:
            self._write_or_wait(exchange, data, records)
            return
        ring.store(data)
        self._stored()

    def shortest_write(self) -> Callable[[int, Passed], None]:
        """The fastest implementation of `write`."""
        return self.writing or self.write

    def read_buffer(self, most: int) -> memoryview | None:
        """
        Memory for the payload of the next record, at most `most` bytes; None if there is none now.

        A payload that is read from a socket into it need not be copied to be recorded, which
        matters for large bodies.  Nothing may be written before that record.
        """
        if self._waiting or self._losing:
            return None
        return self._ring.read_buffer(HEADER.size, LEAST_READ_BUFFER, most)

    def when_room(self) -> Deferred[None]:
        """Fires when everything written so far is in the spool, or has been discarded."""
        waiter: Deferred[None] = Deferred()
        if self.full:
            self._waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def close(self) -> None:
        """Discard waiting records and report losses; the service ends."""
        self._watch_progress(False)
        self._give_up()
        self._report()
        if self.lost.exchanges:
            self._log.critical("{exchanges} captures have lost {size} bytes", **self._lost())

    # --- back-pressure ----------------------------------------------------------------

    def _write_or_wait(self, exchange: int, data: bytes, records: Passed) -> None:
        no_room = bool(self._waiting) or len(data) > self._ring.room
        if no_room and self._passes and exchange != NO_EXCHANGE:
            self._lose(exchange, [(kind, payload) for kind, _, payload in records])
            self._report_when_possible()
        else:
            self._waiting.append((exchange, data))
            # In this order: the spool's thread first frees room, then reads `attentive`.
            self.attentive = True
            self.spool_moved(self.failure)

    @property
    def _passes(self) -> bool:
        return self.failure is not None and self._pass_on_failure

    def spool_moved(self, failure: str | None) -> None:
        """The spool has more room, has failed, or works again."""
        if failure != self.failure:
            self.failure = failure
            self._report_state()
        while self._waiting and self._retry(*self._waiting[0]):
            self._waiting.popleft()
        if self._passes:
            self._give_up()
        self.full = bool(self._waiting) and not self._passes
        self._watch_progress(self.full)
        self._report_when_possible()
        if not self.full:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def _retry(self, exchange: int, data: bytes) -> bool:
        """Store or discard the oldest waiting records; False if they have to wait longer."""
        if exchange in self._losing or len(data) > self._ring.capacity:
            self._lose(exchange, _records(data))
            return True
        return self._store(data)

    def _store(self, data: bytes) -> bool:
        if len(data) > self._ring.room:
            return False
        self._ring.store(data)
        self._stored()
        return True

    def _watch_progress(self, full: bool) -> None:
        """While records wait, check periodically whether the disk makes progress."""
        if full and self._stall is None:
            self._stall = self._clock.callLater(STALL, self._check_progress, self._ring.taken)
        elif not full and self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _check_progress(self, taken: int) -> None:
        self._stall = None
        stalls = self._ring.taken == taken and self.failure is None
        self.spool_moved(f"the disk has not answered for {STALL:g} s" if stalls else self.failure)

    # --- losses -------------------------------------------------------------------------

    def _give_up(self) -> None:
        """Discard waiting records, except those that belong to no exchange."""
        waiting, self._waiting = self._waiting, deque()
        for exchange, data in waiting:
            if exchange == NO_EXCHANGE:
                self._waiting.append((exchange, data))
            else:
                self._lose(exchange, _records(data))

    def _lose(self, exchange: int, records: list[tuple[int, bytes]]) -> None:
        """Discard these records; all later ones of the exchange will be discarded as well."""
        losing = self._losing.get(exchange)
        if losing is None:
            losing = self._losing[exchange] = _Losing(known=records[0][0] != Kind.REQUEST_HEAD)
            self.lost.exchanges += 1
        for kind, payload in records:
            if kind == Kind.END:
                del self._losing[exchange]
                if losing.known:
                    self._ended.append((exchange, losing.bytes, payload))
            else:
                losing.bytes += len(payload)
                self.lost.bytes += len(payload)

    def _report_when_possible(self) -> None:
        """Record the losses in the spool, as soon as it can be written."""
        if not self._waiting and self.failure is None:
            self._report()
        self.attentive = bool(self._waiting) or self._has_news

    @property
    def _has_news(self) -> bool:
        """Whether there are losses to record; those of an exchange under way are recorded at its end."""
        lost, reported = self.lost, self._reported
        return (
            bool(self._ended)
            or lost.exchanges != reported.exchanges
            or (lost.bytes != reported.bytes and not self._losing)
        )

    def _report(self) -> None:
        """As far as there is room: a note and the end of each damaged capture, then the total."""
        now = _now()
        while self._ended:
            exchange, lost, end = self._ended[0]
            note = json.dumps({"capture_lost_bytes": lost}).encode()
            data = encode(Kind.NOTE, 0, exchange, now, note) + encode(Kind.END, 0, exchange, now, end)
            if not self._store(data):
                return
            self._ended.popleft()
        if self._has_news:
            report = {
                "exchanges": self.lost.exchanges - self._reported.exchanges,
                "bytes": self.lost.bytes - self._reported.bytes,
                "reason": self._reason,
            }
            if self._store(encode(Kind.LOST, 0, NO_EXCHANGE, now, json.dumps(report).encode())):
                self._reported = Tally(self.lost.exchanges, self.lost.bytes)

    def _lost(self) -> dict[str, int]:
        return {"exchanges": self.lost.exchanges, "size": self.lost.bytes}

    def _report_state(self) -> None:
        self._ring.tell(self.failure or "")
        if self.failure is not None:
            self._reason = self.failure
            way = "going on without recording" if self._pass_on_failure else "refusing requests"
            self._log.critical("captures cannot be written: {why}; {way}", why=self.failure, way=way)
        else:
            text = "captures are written again; {exchanges} have lost {size} bytes so far"
            self._log.warn(text, **self._lost())


def _records(data: bytes) -> list[tuple[int, bytes]]:
    return [(record.kind, record.content) for record in RecordReader().feed(data)]
