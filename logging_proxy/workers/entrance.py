"""
The entrance of a worker: it accepts on sockets that all workers have, and takes turns.

The kernel wakes every worker for every connection, and gives each connection
to whoever is first: the busier a worker is, the later, but not reliably so,
and one that was idle takes a whole burst.  So a worker that is ahead does not
watch the sockets for a few milliseconds.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.http.connection import ServerConnection
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.proxy.tree import RouteTree
from logging_proxy.workers.board import Board
from logging_proxy.workers.turns import Turns

FIRST_PAUSE = 0.001
"""Seconds until one that is ahead looks again, doubled each time that it still is."""

PAUSE, LONGEST_PAUSE = 0.004, 0.025
"""The longest pause: so much for each worker, lest many of them wake often; and the most in any case."""


class CountedSite(Site):
    """A site whose number of connections stands on the board."""

    def __init__(
        self, tree: RouteTree, clock: Any, limits: ServerLimits, secure: bool, board: Board, worker: int
    ) -> None:
        super().__init__(tree, clock, limits, secure)
        self._board = board
        self._worker = worker

    def opened(self, connection: ServerConnection) -> None:
        super().opened(connection)
        self._board.set_connections(self._worker, len(self.connections))

    def closed(self, connection: ServerConnection) -> None:
        super().closed(connection)
        self._board.set_connections(self._worker, len(self.connections))


class SharedEntrance:
    """The `Entrance` of one worker among several."""

    def __init__(self, reactor: Any, board: Board, worker: int) -> None:
        self._reactor = reactor
        self._board = board
        self._worker = worker

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        return CountedSite(tree, self._reactor, limits, secure, self._board, self._worker)

    def adopt(self, fd: int, family: int, factory: Any) -> IListeningPort:
        self._board.come(self._worker)
        port = SharedPort(
            self._reactor,
            self._reactor.adoptStreamPort(fd, family, factory),
            Turns(self._board, self._worker),
            min(PAUSE * self._board.workers, LONGEST_PAUSE),
        )
        port.startListening()
        return port


@implementer(IListeningPort, IReadDescriptor)
class SharedPort:
    """A port that is read when it is our turn, and not by the reactor itself."""

    def __init__(self, reactor: Any, port: Any, turns: Turns, longest_pause: float) -> None:
        self._reactor = reactor
        self._port = port
        self._turns = turns
        self._longest_pause = longest_pause
        self._pause = FIRST_PAUSE
        self._again: IDelayedCall | None = None
        port.stopReading()
        self._waiting = select.poll()
        self._waiting.register(port.fileno(), select.POLLIN)

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
        """Somebody is waiting: take as many as is fair, or leave them to the others for a moment."""
        room = self._turns.room(self._reactor.seconds())
        if room:
            self._pause = FIRST_PAUSE
            self._port.numberAccepts = min(room, self._port.numberAccepts)
            self._port.doRead()
            return
        self._reactor.removeReader(self)
        self._again = self._reactor.callLater(self._pause, self._look_again)
        self._pause = min(2 * self._pause, self._longest_pause)

    def _look_again(self) -> None:
        self._again = None
        if not self._waiting.poll(0):
            self._turns.nobody_waits()
        self._reactor.addReader(self)
