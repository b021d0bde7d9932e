"""
Turns: how many connections a worker may accept now, so that all workers have about the same number.

The worker with the fewest connections may always accept some, as long as that does
not put it too far ahead.  A worker that is ahead leaves the next connections to the
others, but not for ever: a connection that has waited for `PATIENCE` is accepted
anyway, and a worker that has not even polled in that time is stuck and is
disregarded until it polls again.
"""

from __future__ import annotations

from logging_proxy.workers.board import Board

SHARE = 16
"""A worker may be ahead of the others by 1/`SHARE` of all connections."""

PATIENCE = 0.05
"""Seconds that a connection waits for a worker that is behind, which may be busy with another turn."""

MANY = 100
"""Connections to accept at once when there are no other workers to regard; Twisted's initial number."""


class Turns:
    """The turns of one worker on one listening socket."""

    def __init__(self, board: Board, worker: int) -> None:
        self._board = board
        self._worker = worker
        self._since: float | None = None
        """When this worker began to leave connections to the others; None if it is not doing so."""
        self._seen: dict[int, int] = {}
        """How often each of the others had polled at that time."""
        self._stuck: dict[int, int] = {}
        """Workers that did not poll at all, with the count that must change to end that."""

    def room(self, now: float) -> int:
        """How many of the waiting connections this worker may accept.  On 0, ask again after a pause."""
        board, me = self._board, self._worker
        board.looked(me)
        connections = board.connections()
        own = connections.pop(me, 0)
        others = {each: count for each, count in connections.items() if not self._is_stuck(each)}
        if not others:
            return MANY
        ahead = max(1, (own + sum(others.values())) // SHARE)
        room = min(others.values()) + ahead - own
        if room <= 0:
            return self._left_to_others(now, others)
        self._since = None
        return room

    def queue_is_empty(self) -> None:
        """Note that the accept queue is empty: other workers have taken the connections that waited."""
        self._since = None

    def _is_stuck(self, worker: int) -> bool:
        looks = self._stuck.get(worker)
        if looks is None:
            return False
        if looks == self._board.looks(worker):
            return True
        del self._stuck[worker]
        return False

    def _left_to_others(self, now: float, others: dict[int, int]) -> int:
        if self._since is None:
            self._since = now
            self._seen = {each: self._board.looks(each) for each in others}
            return 0
        if now - self._since < PATIENCE:
            return 0
        self._since = None
        for worker, looks in self._seen.items():
            if looks == self._board.looks(worker):
                self._stuck[worker] = looks
        return 1
