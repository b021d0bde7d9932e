"""
Admission control: a site accepts only as many connections as the process has descriptors for.

At the limit the connections that have been idle longest are closed, and nothing
is accepted until one of them is closed.  New connections stay in the accept
queue meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

AT_ONCE = 16
"""How many idle connections are closed together to make room; more follow when they are closed."""

PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds until a full port checks for room again, doubled each time that there is none."""


class Closable(Protocol):
    """A connection that may be closed to make room."""

    @property
    def waits_since(self) -> float | None:
        """When it became idle, on a clock that all connections share; None while it is in use."""

    def leave(self) -> None:
        """Close in an orderly way."""

    def abort(self) -> None:
        """Close at once; does nothing when it is closed already."""


class Admission:
    """Tells how many more connections a site may have."""

    def __init__(self, connections: Collection[Closable], most: Callable[[], int]) -> None:
        """`connections` are the current ones; `most` returns the limit."""
        self._connections = connections
        self._most = most
        self._leaving: list[Closable] = []

    def room(self) -> int:
        """How many connections may be accepted now.  If 0, idle ones are being closed: ask again soon."""
        room = self._most() - len(self._connections)
        if room <= 0:
            self._make_room()
        elif self._leaving:
            self._leaving = []
        return max(0, room)

    def _make_room(self) -> None:
        for each in self._leaving:
            each.abort()  # its time for an orderly close is over
        waiting = [(since, each) for each in self._connections if (since := each.waits_since) is not None]
        self._leaving = [each for _, each in heapq.nsmallest(AT_ONCE, waiting, key=lambda pair: pair[0])]
        for each in self._leaving:
            each.leave()


@implementer(IListeningPort, IReadDescriptor)
class MeasuredPort:
    """Wraps a port of the reactor, and is read in its place: it accepts only as many as there is room for."""

    def __init__(self, reactor: Any, port: Any, room: Callable[[], int]) -> None:
        """`port` is the reactor's; `room` returns how many connections it may accept now."""
        self._reactor = reactor
        self._port = port
        self._room = room
        self._full_pause = PAUSE
        self._again: IDelayedCall | None = None
        port.stopReading()

    @property
    def factory(self) -> Any:
        return self._port.factory

    @factory.setter
    def factory(self, factory: Any) -> None:
        self._port.factory = factory

    # --- IListeningPort -----------------------------------------------------------------

    def startListening(self) -> None:
        self._reactor.addReader(self)

    def stopListening(self) -> Deferred[None] | None:
        self._reactor.removeReader(self)
        if self._again is not None:
            self._again.cancel()
            self._again = None
        stopping: Deferred[None] | None = self._port.stopListening()
        return stopping

    def getHost(self) -> IAddress:
        host: IAddress = self._port.getHost()
        return host

    # --- IReadDescriptor ----------------------------------------------------------------

    def logPrefix(self) -> str:
        return "entrance"

    def fileno(self) -> int:
        return int(self._port.fileno())

    def connectionLost(self, reason: Failure) -> None:
        self._port.connectionLost(reason)

    def doRead(self) -> None:
        """Accept waiting connections as far as there is room, else try again after a pause."""
        room = self._room()
        if room:
            self._full_pause = PAUSE
            self._take(room)
        else:
            self._pause_for(self._full_pause)
            self._full_pause = min(2 * self._full_pause, LONGEST_PAUSE)

    def _take(self, most: int) -> None:
        """Accept up to `most` waiting connections."""
        self._port.numberAccepts = min(most, self._port.numberAccepts)
        self._port.doRead()

    def _pause_for(self, seconds: float) -> None:
        self._reactor.removeReader(self)
        self._again = self._reactor.callLater(seconds, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._reactor.addReader(self)


def listen(reactor: Any, fd: int, family: int, factory: Any, room: Callable[[], int]) -> MeasuredPort:
    """Listen on a duplicate of the listening socket `fd`, accepting only as far as there is room."""
    port = MeasuredPort(reactor, reactor.adoptStreamPort(fd, family, factory), room)
    port.startListening()
    return port
