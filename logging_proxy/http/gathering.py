"""
What comes together with a fault in a message, so that all of it can be recorded.

A message is refused as soon as it is known to be faulty, but how much of it has come by then is a
matter of how TCP has cut it.  So it is read on for a moment, and then judged by all that has come:
the same bytes are kept, and the same line is named, whatever the cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from logging_proxy.http.deadlines import NEVER

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import Reader

MOMENT = 0.2
"""Seconds without more of a faulty message after which that is all: what TCP cuts is closer together."""

LONGEST = 1.0
"""Seconds that it may take in all."""


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
        """More has come; what is over the limit is dropped."""
        self._data += data[: self._limit - len(self._data)]
        if len(self._data) >= self._limit:
            self.finish()
        elif self._timer is not None:
            self._timer.reset(max(0.0, min(MOMENT, self._until - self._clock.seconds())))

    def finish(self) -> None:
        """Nothing more will come."""
        done = self._done
        self.cancel()
        if done is not None:
            done(self._data)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._done = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class Refusing:
    """The part of a connection, of either end, that gathers what it refuses."""

    deadline: float
    _receive: Any
    _reader: Reader | None
    _gathering: Gathering | None = None

    def _gather(self, data: bytes, clock: IReactorTime, limit: int, done: Callable[[bytes], None]) -> None:
        """`data` is refused: `done` is called with it and what comes with it."""
        self.deadline = NEVER
        self._receive = self._receive_refused
        if self._reader is not None:
            self._reader.passage = None
        self._gathering = Gathering(clock, limit, done)
        self._gathering.begin(data)

    def _receive_refused(self, data: bytes) -> None:
        """What comes behind a fault; it is dropped when that has been judged."""
        if self._gathering is not None:
            self._gathering.add(data)

    def _finish_gathering(self) -> None:
        """Nothing more comes."""
        if self._gathering is not None:
            self._gathering.finish()

    def _stop_gathering(self) -> None:
        """Nobody wants it any more."""
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering.cancel()
