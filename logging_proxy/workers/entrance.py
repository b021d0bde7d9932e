"""
The entrance of a worker: it accepts on sockets that all workers have, and takes turns.

The kernel wakes every worker for every connection, and gives each connection
to whoever is first: the busier a worker is, the later, but not reliably so,
and one that was idle takes a whole burst.  So a worker that is ahead does not
watch the sockets for a few milliseconds.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort

from logging_proxy.http.connection import ServerConnection
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.net.admission import MeasuredPort
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

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        self._board.come(self._worker)
        port = SharedPort(
            self._reactor,
            self._reactor.adoptStreamPort(fd, family, factory),
            Turns(self._board, self._worker),
            min(PAUSE * self._board.workers, LONGEST_PAUSE),
            room,
        )
        port.startListening()
        return port


class SharedPort(MeasuredPort):
    """A port that is read when it is our turn."""

    def __init__(
        self, reactor: Any, port: Any, turns: Turns, longest_pause: float, room: Callable[[], int]
    ) -> None:
        super().__init__(reactor, port, room)
        self._turns = turns
        self._longest_pause = longest_pause
        self._pause = FIRST_PAUSE
        self._waiting = select.poll()
        self._waiting.register(port.fileno(), select.POLLIN)

    def _take(self, most: int) -> None:
        """Take as many as is fair, or leave them to the others for a moment."""
        fair = self._turns.room(self._reactor.seconds())
        if fair:
            self._pause = FIRST_PAUSE
            super()._take(min(most, fair))
            return
        self._pause_for(self._pause)
        self._pause = min(2 * self._pause, self._longest_pause)

    def _look_again(self) -> None:
        if not self._waiting.poll(0):
            self._turns.nobody_waits()
        super()._look_again()
