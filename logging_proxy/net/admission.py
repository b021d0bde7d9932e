"""
Which connections come in: no more than there is room for, and who waits for nothing goes first.

At the limit the connections that have waited longest for a request are closed,
and nobody is accepted until one is gone.  Who wants to connect waits in the
socket's backlog meanwhile.
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
"""Connections that are closed to make room; the next ones when these are gone."""

PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds until a port looks again whether there is room, doubled each time that there is none."""


class Guest(Protocol):
    """A connection that may have to make room."""

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for a request, on a clock that all share; None while it is in use."""

    def leave(self) -> None:
        """Close in good order."""

    def abort(self) -> None:
        """Close at once; does nothing when it is closed already."""


class Admission:
    """How many more connections a site may have."""

    def __init__(self, connections: Collection[Guest], most: Callable[[], int]) -> None:
        """`connections` are those of now, `most` how many there may be."""
        self._connections = connections
        self._most = most
        self._leaving: list[Guest] = []

    def room(self) -> int:
        """How many may be accepted now.  With 0, room is made if it can be: ask again in a moment."""
        room = self._most() - len(self._connections)
        if room <= 0:
            self._make_room()
        elif self._leaving:
            self._leaving = []
        return max(0, room)

    def _make_room(self) -> None:
        for each in self._leaving:
            each.abort()  # it has had its moment
        waiting = [(since, each) for each in self._connections if (since := each.waits_since) is not None]
        self._leaving = [each for _, each in heapq.nsmallest(AT_ONCE, waiting, key=lambda pair: pair[0])]
        for each in self._leaving:
            each.leave()


@implementer(IListeningPort, IReadDescriptor)
class MeasuredPort:
    """A port that accepts as many as there is room for; it is read in place of the reactor's own."""

    def __init__(self, reactor: Any, port: Any, room: Callable[[], int]) -> None:
        """`port` is the reactor's; `room` tells how many connections it may accept now."""
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
        """Somebody is waiting: take as many as there is room for, or look again in a moment."""
        room = self._room()
        if room:
            self._full_pause = PAUSE
            self._take(room)
        else:
            self._pause_for(self._full_pause)
            self._full_pause = min(2 * self._full_pause, LONGEST_PAUSE)

    def _take(self, most: int) -> None:
        """Accept those who wait, up to `most`."""
        self._port.numberAccepts = min(most, self._port.numberAccepts)
        self._port.doRead()

    def _pause_for(self, seconds: float) -> None:
        self._reactor.removeReader(self)
        self._again = self._reactor.callLater(seconds, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._reactor.addReader(self)


def listen(reactor: Any, fd: int, family: int, factory: Any, room: Callable[[], int]) -> MeasuredPort:
    """Accept on a socket that listens, of which a copy is made, as far as there is room."""
    port = MeasuredPort(reactor, reactor.adoptStreamPort(fd, family, factory), room)
    port.startListening()
    return port
