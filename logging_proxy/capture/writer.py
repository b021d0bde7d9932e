"""
The writer: puts records into the spool, and says when there is room again.

It is the one place that knows what to do when the spool cannot take more:
wait while the disk is slow, and, when the disk refuses, either wait
(`block`) or go on without and count what is lost (`pass`).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from logging_proxy.capture.records import HEADER, Kind, RecordReader, encode
from logging_proxy.capture.ring import Ring

Passed = Iterable[tuple[int, int, bytes]]
"""Kind, flags and payload of some records of one exchange."""


@dataclass(slots=True)
class _Losing:
    """What is lost of one exchange; `known` if its head is in the spool."""

    known: bool
    bytes: int = 0


class CaptureWriter:
    """
    Writes records to a ring.

    `full` is True while records wait for room: who gets True must not pass on
    the bytes it has just recorded before the Deferred of `when_room` fires.
    """

    _log = Logger()

    def __init__(self, ring: Ring, stored: Callable[[], None], pass_on_failure: bool) -> None:
        self.full = False
        self.lost_exchanges = 0
        self.lost_bytes = 0
        self.failure: str | None = None
        self._ring = ring
        self._stored = stored
        self._pass_on_failure = pass_on_failure
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiters: list[Deferred[None]] = []
        self._losing: dict[int, _Losing] = {}
        """Exchanges under way of which something could not be written."""
        self._ended: list[tuple[int, int, bytes]] = []
        """Such exchanges that have ended since: number, bytes lost, payload of the END record."""
        self._reported = 0

    @property
    def refuses(self) -> bool:
        """Whether a new exchange must be refused: nothing can be recorded, and that is what was asked for."""
        return self.failure is not None and not self._pass_on_failure

    def write(self, exchange: int, records: Passed) -> None:
        """Record what passed, in order.  Afterwards, look at `full`."""
        now = time.monotonic_ns()
        data = b"".join(
            [
                HEADER.pack(len(payload), kind, flags, 0, exchange, now) + payload
                for kind, flags, payload in records
            ]
        )
        ring = self._ring
        if self._waiting or self._losing or len(data) > ring.capacity - ring.stored + ring.taken:
            self._write_later(exchange, data, records)
            return
        ring.store(data)
        self._stored()

    def when_room(self) -> Deferred[None]:
        """Fires when all that was written so far is in the spool."""
        waiter: Deferred[None] = Deferred()
        if self.full:
            self._waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    # --- when there is no room ------------------------------------------------------

    def _write_later(self, exchange: int, data: bytes, records: Passed) -> None:
        losing = exchange in self._losing
        if not losing and not self._waiting and len(data) <= self._ring.room:
            self._ring.store(data)
            self._stored()
        elif losing or (self.failure is not None and self._pass_on_failure):
            self._lose(exchange, [(kind, payload) for kind, _, payload in records])
        else:
            self._waiting.append((exchange, data))
            # In this order: the spool's thread frees room first and looks at `full` second.
            self.full = True
            self._stored()
            self.spool_moved(self.failure)

    def _lose(self, exchange: int, records: list[tuple[int, bytes]]) -> None:
        """These records, and all later ones of the exchange, cannot be kept."""
        losing = self._losing.get(exchange)
        if losing is None:
            losing = self._losing[exchange] = _Losing(known=records[0][0] != Kind.REQUEST_HEAD)
            self.lost_exchanges += 1
        for kind, payload in records:
            if kind != Kind.END:
                losing.bytes += len(payload)
                self.lost_bytes += len(payload)
                continue
            del self._losing[exchange]
            if losing.known:
                self._ended.append((exchange, losing.bytes, payload))

    def spool_moved(self, failure: str | None) -> None:
        """The spool has more room, or fails, or works again.  Called on the reactor's thread."""
        if failure != self.failure:
            self.failure = failure
            self._say_so()
        while self._waiting and len(self._waiting[0][1]) <= self._ring.room:
            self._ring.store(self._waiting.popleft()[1])
            self._stored()
        if self._waiting and failure is not None and self._pass_on_failure:
            waiting, self._waiting = self._waiting, deque()
            for exchange, data in waiting:
                self._lose(exchange, [(record.kind, record.payload) for record in RecordReader().feed(data)])
        if not self._waiting and failure is None:
            self._tell_what_was_lost()
        self.full = bool(self._waiting)
        if not self.full:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def _tell_what_was_lost(self) -> None:
        """There is room again: captures with a hole say so, and end."""
        now = time.monotonic_ns()
        while self._ended:
            exchange, lost, end = self._ended[0]
            note = json.dumps({"capture_lost_bytes": lost}).encode()
            data = encode(Kind.NOTE, 0, exchange, now, note) + encode(Kind.END, 0, exchange, now, end)
            if len(data) > self._ring.room:
                return
            self._ring.store(data)
            del self._ended[0]
        if self.lost_exchanges > self._reported:
            report = {"exchanges": self.lost_exchanges - self._reported}
            data = encode(Kind.LOST, 0, 0, now, json.dumps(report).encode())
            if len(data) <= self._ring.room:
                self._ring.store(data)
                self._reported = self.lost_exchanges
                self._stored()

    def _say_so(self) -> None:
        if self.failure is not None:
            way = "going on without recording" if self._pass_on_failure else "refusing requests"
            self._log.critical("captures cannot be written: {why}; {way}", why=self.failure, way=way)
        else:
            self._log.warn(
                "captures are written again; {exchanges} lost so far ({size} bytes)",
                exchanges=self.lost_exchanges,
                size=self.lost_bytes,
            )
