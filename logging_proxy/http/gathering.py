"""
Reads on for a moment after a fault in a message, so that the bytes that came with it can be recorded.

How much of a message has been received when its fault is found depends on TCP's segments.  So reading
goes on briefly, and the message is judged by everything received: the same bytes are kept, and the same
line is named, however they were cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from logging_proxy.http.deadlines import NEVER

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import Reader

MOMENT = 0.2
"""Seconds of silence after which a faulty message counts as complete; segments follow each other faster."""

LONGEST = 1.0
"""Seconds that gathering may take in all."""


class Gathering:
    """
    Collects bytes until there are `limit`, none come for a moment, or `finish` is called.

    `done` is then called with at most `limit` bytes, once; in `begin` already if they are all there.
    """

    def __init__(self, clock: IReactorTime, limit: int, done: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._limit = limit
        self._done: Callable[[bytes], None] | None = done
        self._data = b""
        self._until = clock.seconds() + LONGEST
        self._timer: IDelayedCall | None = None

    def begin(self, data: bytes) -> None:
        self._timer = self._clock.callLater(MOMENT, self.finish)
        self.add(data)

    def add(self, data: bytes) -> None:
        """Add `data`; bytes over the limit are dropped."""
        self._data += data[: self._limit - len(self._data)]
        if len(self._data) >= self._limit:
            self.finish()
        elif self._timer is not None:
            self._timer.reset(max(0.0, min(MOMENT, self._until - self._clock.seconds())))

    def finish(self) -> None:
        """The peer sends nothing more."""
        done = self._done
        self.cancel()
        if done is not None:
            done(self._data)

    def cancel(self) -> None:
        """Stop without calling `done`."""
        self._done = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class Refusing:
    """The part of a connection, to a client or an upstream, that gathers refused input."""

    deadline: float
    _receive: Any
    _reader: Reader | None
    _gathering: Gathering | None = None

    def _gather(self, data: bytes, clock: IReactorTime, limit: int, done: Callable[[bytes], None]) -> None:
        """`data` is refused: `done` is called with it and the input that follows."""
        self.deadline = NEVER
        self._receive = self._receive_refused
        if self._reader is not None:
            self._reader.fast_path = None
        self._gathering = Gathering(clock, limit, done)
        self._gathering.begin(data)

    def _receive_refused(self, data: bytes) -> None:
        """Input behind a fault; it is dropped once the fault has been judged."""
        if self._gathering is not None:
            self._gathering.add(data)

    def _finish_gathering(self) -> None:
        """The peer sends nothing more."""
        if self._gathering is not None:
            self._gathering.finish()

    def _stop_gathering(self) -> None:
        """Drop the refused input."""
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering.cancel()
