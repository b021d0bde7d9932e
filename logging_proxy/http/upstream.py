"""A connection to an upstream, whatever it carries: how long it waits, how it is held back, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import protocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from logging_proxy.http.deadlines import NEVER
from logging_proxy.net.wire import Send, gone, keep_probing, looker, lost, outlives_a_read, sender

CLOSING_TIME = 5.0
"""Seconds that an upstream has to take the last bytes, or TLS its farewell, before it is reset."""


class UpstreamConnection(protocol.Protocol):
    """
    The part of a connection that knows nothing of HTTP.

    What is read, and what it means that `deadline` has passed, is for subclasses.
    """

    transport: Any

    def __init__(self, now: Callable[[], float]) -> None:
        self.deadline = NEVER
        self.send: Send = gone
        self._now = now
        self._look: Callable[[], bool] = lambda: True
        self._close_reason: Failure | None = None
        self._wait = NEVER
        self._closing = False
        self._lost = False
        self._read_ended = False
        self._send_failed = False
        """A send has met the loss of the connection, which a read would now take for an end in good order."""

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.send = sender(transport, self._note_failed_send)
        self._look = looker(transport)
        keep_probing(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self.deadline = NEVER
        self.send = gone

    def _note_failed_send(self) -> None:
        self._send_failed = True

    def _truly(self, reason: Failure) -> Failure:
        """Why the connection has ended, which is not always what the transport says."""
        return lost(reason) if self._send_failed else reason

    def looks_closed(self) -> bool:
        """Whether the upstream has closed (or written) while nobody asked it anything."""
        return self._lost or (self._look() and not self._stays_idle())

    def _stays_idle(self) -> bool:
        """Whether what has come is TLS's own."""
        return outlives_a_read(self.transport, self._look) and self._is_idle()

    def _is_idle(self) -> bool:
        """Whether the connection, which was idle, still is when something has been read.  For subclasses."""
        return True

    def _expect(self, seconds: float) -> None:
        self._wait = seconds
        self.deadline = self._now() + seconds

    # --- its end -----------------------------------------------------------------------

    def abort(self, reason: Failure | None = None) -> None:
        """Give the connection up at once; who is to have what it brings, if anybody, is told `reason`."""
        self.deadline = NEVER
        if self._lost or self.transport is None:
            return
        self._close_reason = reason
        self.transport.abortConnection()

    def close(self) -> None:
        """End an idle connection in good order; one that will not end is reset a little later."""
        if self.transport is not None and not self._lost:
            self._closing = True
            self.deadline = self._now() + CLOSING_TIME
            self.transport.loseConnection()

    # --- flow control ------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading; the upstream's idle time does not run while we hold it."""
        self.deadline = NEVER
        if self.transport is not None and not self._lost:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self.transport is not None and not self._lost:
            self.deadline = self._now() + self._wait
            if not self._read_ended:  # the transport would tell of the end a second time
                self.transport.resumeProducing()
