"""
A worker's entrance: it accepts on listening sockets that all workers share.

The kernel wakes every worker for every connection, and the connection goes to
the first worker that accepts it.  Busy workers are usually later, but not
reliably, and an idle worker takes a whole burst.  A worker with more connections
than the others therefore does not poll the sockets for a few milliseconds.
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
"""Pause in seconds before a worker that is ahead polls again; doubled each time that it is still ahead."""

PAUSE, LONGEST_PAUSE = 0.004, 0.025
"""Longest pause in seconds: `PAUSE` per worker, to limit wake-ups, but at most `LONGEST_PAUSE`."""


class CountedSite(Site):
    """A site that publishes its number of connections on the board."""

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
    """The `Entrance` of a worker that shares its listening sockets."""

    def __init__(self, reactor: Any, board: Board, worker: int) -> None:
        self._reactor = reactor
        self._board = board
        self._worker = worker

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        return CountedSite(tree, self._reactor, limits, secure, self._board, self._worker)

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        self._board.join(self._worker)
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
    """A listening port that accepts only when it is this worker's turn."""

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
        """Accept this worker's fair share, or pause to leave the connections to other workers."""
        fair = self._turns.room(self._reactor.seconds())
        if fair:
            self._pause = FIRST_PAUSE
            super()._take(min(most, fair))
            return
        self._pause_for(self._pause)
        self._pause = min(2 * self._pause, self._longest_pause)

    def _look_again(self) -> None:
        if not self._waiting.poll(0):
            self._turns.queue_is_empty()
        super()._look_again()
