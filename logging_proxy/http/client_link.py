"""
A client's connection below its requests: a client that stalls, and how the connection is closed.

A close in good order gives the client time: `STALL` seconds without progress to take the last bytes, and
then `LINGER` seconds to end its own direction.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.faults import ClientGivenUp
from logging_proxy.http.limits import LINGER, LONGEST_LINGER, STALL
from logging_proxy.http.link import Link
from logging_proxy.http.protocols import ConnectionSite
from logging_proxy.http.stalls import Stall
from logging_proxy.net.wire import half_closer


@implementer(IHalfCloseableProtocol)
class ClientLink(Link):
    """A client's connection, without requests and responses."""

    def __init__(self, site: ConnectionSite[Any]) -> None:
        super().__init__(site.now)
        self.site = site
        self.peer: IAddress | None = None
        self._limits = site.limits
        self._stall: Stall | None = None
        self._unsent = 0
        self._linger_until = NEVER

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = self.transport.getPeer()

    def writeConnectionLost(self) -> None:
        """The last answer has been sent; now the client has time to read it and to close."""
        if self._receive == self._lingering:
            self._unsent = 0
            self.deadline = self._now() + LINGER

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._stall = None

    def _peer_lost(self, reason: Failure) -> None:
        self.flows()

    # --- a client that stalls ---------------------------------------------------------

    def stalls(self) -> None:
        """The client applies back-pressure: it has `send_timeout` seconds to read some bytes."""
        if self._lost:
            return
        if self._stall is None:
            self._stall = Stall(self, self.site.deadlines, self._limits.send_timeout)
        self._stall.begin()

    def flows(self) -> None:
        """The client has read the waiting bytes, or none are waiting any more."""
        if self._stall is not None:
            self._stall.end()

    def hurry(self) -> None:
        if not self._lost:
            self._watch_queue()

    # --- closing --------------------------------------------------------------------

    def _linger(self) -> None:
        """Half-close, and read until the client ends its direction or its time is up."""
        half_close = half_closer(self.transport)
        if half_close is None:
            self._close()  # TLS sends its close_notify, and reads until the client's
            return
        self._receive = self._lingering
        self._linger_until = self._now() + LONGEST_LINGER
        self._resume_transport()
        self._watch_queue()
        half_close()

    def _lingering(self, data: bytes) -> None:
        """Discard input while the last response is on its way, and after that."""
        self._linger_on()

    def _linger_on(self) -> None:
        """While input arrives, the client is not reading yet: closing now could destroy its answer."""
        if not (self._lost or self.site.closing or self._queue_length()):
            self.deadline = min(self._now() + LINGER, self._linger_until)

    def _close(self) -> None:
        """Close when everything queued has been sent."""
        self._receive = self._closing
        self._linger_until = min(self._linger_until, self._now() + LONGEST_LINGER)
        self._watch_queue()
        self.transport.loseConnection()

    def _closing(self, data: bytes) -> None:
        """Discard input on a closed connection; it can arrive over TLS."""
        self._linger_on()

    def _watch_queue(self) -> None:
        self._unsent = self._queue_length()
        self.deadline = self._now() + (STALL if self._unsent else LINGER)

    def _reset(self) -> None:
        self._receive = self._closing
        super()._reset()

    def timedOut(self) -> None:
        """The connection has been idle for too long, or its end takes too long."""
        if self._receive not in (self._lingering, self._closing, self._receive_tunnel):
            self._close()
        elif self._queue_length() < self._unsent:
            self._watch_queue()  # the client is slow, but it reads
        elif self._receive == self._lingering and not self._unsent:
            self._close()
        else:
            self.give_up(Failure(ClientGivenUp("the client did not end its connection in time")))
