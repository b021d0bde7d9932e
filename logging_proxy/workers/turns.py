"""
Turns: how many connections a worker may take now, so that all have about as many.

The one with the fewest may always take some, as long as it is not too far
ahead afterwards; one that is ahead leaves the next connections to the others.
It does not trust that they take them: a connection that has waited for
`PATIENCE` is taken all the same, and who has not even looked at it is stuck,
and does not count until it looks again.
"""

from __future__ import annotations

from logging_proxy.workers.board import Board

SHARE = 16
"""A worker may be ahead by one part in so many of all connections: two of them have 53 % at most of 64."""

PATIENCE = 0.05
"""Seconds that a connection waits for a worker that is behind; a busy one has turns of 5 ms."""

MANY = 100
"""Connections that are accepted at once by who need not look at others; as many as Twisted begins with."""


class Turns:
    """The turns of one worker at one listening socket."""

    def __init__(self, board: Board, worker: int) -> None:
        self._board = board
        self._worker = worker
        self._since: float | None = None
        """Since when connections have been left to others without a pause."""
        self._seen: dict[int, int] = {}
        """How often the others had looked then."""
        self._stuck: dict[int, int] = {}
        """Who did not look at all, with the number of looks that is to change."""

    def room(self, now: float) -> int:
        """Somebody is waiting to be accepted: how many we may accept.  With 0, look again in a moment."""
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

    def nobody_waits(self) -> None:
        """The others have taken whoever was waiting."""
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
