"""A deadline for clients that stop reading: the data queued for them cannot be held for ever."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure

from logging_proxy.http.deadlines import NEVER, Deadlines
from logging_proxy.http.faults import ClientGivenUp
from logging_proxy.net.wire import unreceived


class Stalling(Protocol):
    """A client's connection."""

    transport: Any

    def give_up(self, reason: Failure) -> None:
        """Reset the connection; `reason` is passed to its responder."""


class Stall:
    """
    Gives a client up that acknowledges nothing for `timeout` seconds while data is queued for it.

    Acknowledgements count, not the length of our queue: a slow client empties the kernel's buffer long
    before our queue moves.
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
