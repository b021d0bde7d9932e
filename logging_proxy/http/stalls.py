"""A client that takes nothing of what it is sent: what is held for it cannot be held for ever."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure

from logging_proxy.http.deadlines import NEVER, Deadlines
from logging_proxy.http.faults import ClientGivenUp
from logging_proxy.net.wire import unreceived


class Stalling(Protocol):
    """The connection of such a client."""

    transport: Any

    def give_up(self, reason: Failure) -> None:
        """Reset the connection, and tell whom it serves."""


class Stall:
    """
    Gives a client up that takes nothing for `timeout` seconds while more waits for it.

    Progress is what the client's side has acknowledged: a slow one empties the
    kernel's buffer long before ours moves.
    """

    def __init__(self, connection: Stalling, deadlines: Deadlines, timeout: float) -> None:
        self.deadline = NEVER
        self._connection = connection
        self._deadlines = deadlines
        self._timeout = timeout
        self._left = 0

    def begin(self) -> None:
        self._deadlines.watch(self)
        self._look()

    def end(self) -> None:
        self.deadline = NEVER
        self._deadlines.forget(self)

    def _look(self) -> None:
        self._left = unreceived(self._connection.transport)
        self.deadline = self._deadlines.now() + self._timeout

    def timedOut(self) -> None:
        before = self._left
        self._look()
        if self._left >= before:
            self.end()
            text = f"the client took nothing for {self._timeout:g} s"
            self._connection.give_up(Failure(ClientGivenUp(text)))
