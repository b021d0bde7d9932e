"""
The reactor: Twisted's epoll reactor with less work between the kernel and a transport.

In every iteration Twisted checks delayed calls and thread calls, and it sets a log
context around every event.  Here an iteration does only due work, and
readable sockets are read at once, which is a considerable part of the cost of
small events.  Connections to this machine are not paced.

Its clock is monotonic.  Twisted's is the wall clock, and a step of that clock
would end every delay at once, or extend it by the size of the step.

Everything else is Twisted's, including its handling of exceptions.  Private
names of `EPollReactor` are used only here; if one is missing, the start fails with
an AttributeError.
"""

from __future__ import annotations

import sys
import time
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet import tcp
from twisted.internet.base import _topHandler
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

from logging_proxy.net.pacing import Connector

MOST_EVENTS = 512
"""Events handled per iteration; epoll returns the remaining ones first in the next."""

LONGEST_POLL = 3600.0
"""Longest poll in seconds: epoll does not accept more than 2^31 milliseconds."""

_ERROR_OR_HANGUP = EPOLLERR | EPOLLHUP

_NAMES = (
    "_cancellations",
    "_doReadOrWrite",
    "_disconnectSelectable",
    "_justStopped",
    "_newTimedCalls",
    "_pendingTimedCalls",
    "_poller",
    "_reads",
    "_selectables",
    "_started",
    "threadCallQueue",
)


class ProxyReactor(EPollReactor):
    """An `EPollReactor` with less overhead per event, and a monotonic clock."""

    seconds = staticmethod(time.monotonic)

    _log = Logger()

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name in _NAMES:
            getattr(self, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """Like Twisted's, without pacing for peers on this machine (see `pacing`)."""
        connector = Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def mainLoop(self) -> None:
        while self._started:
            with _topHandler:  # outside the inner loop, since entering it is expensive
                while self._started:
                    self.doIteration(self._until_due())

    def _until_due(self) -> float | None:
        """Run the due calls; returns the seconds until the next delayed call, None if there is none."""
        pending: list[Any] = self._pendingTimedCalls
        if self.threadCallQueue or self._newTimedCalls or self._justStopped or not pending:
            self.runUntilCurrent()
        else:
            wait: float = pending[0].time - self.seconds()
            if wait > 0:
                return min(wait, LONGEST_POLL) if self.running else 0
            self.runUntilCurrent()
        return self.timeout() if self.running else 0

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        try:
            ready = self._poller.poll(timeout, min(len(selectables), MOST_EVENTS))
        except InterruptedError:
            return
        for fd, event in ready:
            selectable = selectables.get(fd)
            if selectable is None:
                continue  # closed by an earlier event of this iteration
            if event != EPOLLIN:
                # Twisted takes an error without readable data for the peer's orderly end.  A reset that
                # the kernel is still processing looks the same, and a truncated stream would count as
                # complete, which happens under load.  A read distinguishes the two.
                if event & _ERROR_OR_HANGUP and fd in self._reads:
                    event |= EPOLLIN
                    if event & EPOLLHUP:
                        # Nothing can be sent any more.  The failing send would end the connection before
                        # all received data has been read, which truncates an early response.
                        event &= ~EPOLLOUT
                self._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]
                continue
            try:
                why = selectable.doRead()
            except BaseException as error:
                self._log.failure("while reading from {selectable!r}", selectable=selectable)
                why = error
            if why:
                self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install() -> None:
    """
    Make this the process's reactor, unless one is installed already (`twistd --reactor=...`).

    To be called before anything imports `twisted.internet.reactor`.
    """
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(ProxyReactor())
