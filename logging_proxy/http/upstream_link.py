"""A connection to an upstream below its responses: whether it is still open, its deadline, its end."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.link import Link
from logging_proxy.net.wire import keep_probing, outlives_a_read, readable_check

CLOSING_TIME = 5.0
"""Seconds that an upstream has to take the last bytes, or TLS its close_notify, before it is reset."""


class UpstreamLink(Link):
    """A connection to an upstream, without requests and responses."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._look: Callable[[], bool] = lambda: True
        self._close_reason: Failure | None = None
        self._wait = NEVER
        """Seconds that the upstream may take until its next bytes."""
        self._closing = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._look = readable_check(self.transport)
        keep_probing(self.transport)

    def looks_closed(self) -> bool:
        """Whether the upstream has closed the idle connection, or has written to it."""
        return self._lost or (self._look() and not self._stays_idle())

    def _stays_idle(self) -> bool:
        """Whether the input is only TLS's own: session tickets, new keys."""
        return outlives_a_read(self.transport, self._look) and self._is_idle()

    def _is_idle(self) -> bool:
        """Whether the connection is still idle after a read.  For subclasses."""
        return True

    def _expect(self, seconds: float) -> None:
        self._wait = seconds
        self.deadline = self._now() + seconds

    # --- a tunnel, flow control -------------------------------------------------------

    def hurry(self) -> None:
        if not self._lost:
            self._expect(CLOSING_TIME)

    def _receive_tunnel(self, data: bytes) -> None:
        self.deadline = self._now() + self._wait
        super()._receive_tunnel(data)

    def pauseProducing(self) -> None:
        """Stop reading; the upstream's idle time does not run meanwhile."""
        self.deadline = NEVER
        self._pause_transport()

    def resumeProducing(self) -> None:
        if not self._lost:
            self.deadline = self._now() + self._wait
            self._resume_transport()

    # --- its end -----------------------------------------------------------------------

    def abort(self, reason: Failure | None = None) -> None:
        """Give the connection up at once; `reason` is passed to whatever waits for the response."""
        self.deadline = NEVER
        if not self._lost and self.transport is not None:
            self._close_reason = reason
            self._reset()

    def close(self) -> None:
        """End an idle connection in good order; one that will not end is reset a little later."""
        if self.transport is not None and not self._lost:
            self._closing = True
            self.deadline = self._now() + CLOSING_TIME
            self.transport.loseConnection()

    def _peer_ended(self) -> None:
        self.close()
