"""
A client's connection below its requests: what is sent, what is held back, a tunnel, and the end.

Nothing here knows of heads and bodies.  An end in good order gives the client time: for the last
bytes as long as it takes any of them, and then a moment to end its own direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.faults import ClientGivenUp
from logging_proxy.http.limits import LINGER, LONGEST_LINGER, STALL
from logging_proxy.http.protocols import ConnectionSite, TunnelEnd
from logging_proxy.http.stalls import Stall
from logging_proxy.net.wire import (
    Send,
    end_sending,
    gone,
    half_closer,
    lost,
    queue_length,
    read_no_more,
    sender,
)


@implementer(IHalfCloseableProtocol)
class Channel(Protocol):
    """
    One client's connection, whatever is said on it.

    A subclass sets `_receive`, which is called with every read.  It is told of the end of the client's
    sending by `_client_ended`, and by `_client_lost` when nothing can be said to it any more.
    """

    transport: Any

    def __init__(self, site: ConnectionSite[Any]) -> None:
        self.site = site
        self.deadline = NEVER
        self.send: Send = gone
        self.peer: IAddress | None = None
        self._limits = site.limits
        self._send: Send = gone
        self._queue_length: Callable[[], int] = int
        self._receive: Callable[[bytes], object] = gone
        self._tunnel: TunnelEnd | None = None
        self._stall: Stall | None = None
        self._paused = False
        self._read_ended = False
        self._lost = False
        """The client is gone, or has been given up: nothing can be said to it any more."""
        self._send_failed = False
        """A send has met the loss of the connection, which a read would now take for an end in good order."""
        self._unsent = 0
        self._linger_until = NEVER

    # --- what the transport calls -------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.send = self._send = sender(transport, self._note_failed_send)
        self._queue_length = queue_length(transport)
        self.peer = transport.getPeer()

    def dataReceived(self, data: bytes) -> None:
        self._receive(data)

    def _note_failed_send(self) -> None:
        self._send_failed = True

    def readConnectionLost(self) -> None:
        """The client has ended its sending."""
        self._read_ended = True
        if self._send_failed:
            self.give_up(Failure(CONNECTION_LOST))
        elif self._tunnel is not None:
            self._tunnel.sendingEnded()
        else:
            self._client_ended()

    def writeConnectionLost(self) -> None:
        """The last answer has been sent; now the client has time to read it and to close."""
        if self._receive == self._lingering:
            self._unsent = 0
            self.deadline = self.site.now() + LINGER

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lose(lost(reason) if self._send_failed else reason)
        self.deadline = NEVER
        self._receive = self.send = self._send = gone  # no cycles, no transport kept alive
        self._queue_length = int
        self._stall = None
        read_no_more(self.transport)

    def _lose(self, reason: Failure) -> None:
        """Nothing more can be said to the client: tell whom it concerns, once."""
        if self._lost:
            return
        self._lost = True
        self.deadline = NEVER
        self.send = gone
        self.flows()
        self._client_lost(reason)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.connectionLost(reason)

    def _client_ended(self) -> None:
        """The client has ended its sending, and there is no tunnel.  For subclasses."""

    def _client_lost(self, reason: Failure) -> None:
        """The client is gone, or has been given up; called once.  For subclasses."""

    # --- flow control: what is read -------------------------------------------------

    def _pause_transport(self) -> None:
        if not self._lost:
            self._paused = True
            self.transport.pauseProducing()

    def _resume_transport(self) -> None:
        if not self._lost:
            self._paused = False
            if not self._read_ended:  # the transport would tell of the end a second time
                self.transport.resumeProducing()

    # --- flow control: what is sent -------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read what was sent before them."""
        return self._queue_length()

    def stalls(self) -> None:
        """More waits for the client than it takes: it has a while to take some of it."""
        if self._lost:
            return
        if self._stall is None:
            self._stall = Stall(self, self.site.deadlines, self._limits.send_timeout)
        self._stall.begin()

    def flows(self) -> None:
        """The client has taken what waited, or nothing waits for it any more."""
        if self._stall is not None:
            self._stall.end()

    # --- after a switch of protocols --------------------------------------------------

    def _hand_over(self, tunnel: TunnelEnd, data: bytes) -> None:
        """What comes from now on is for `tunnel`, and first of all `data`, which has come already."""
        self._tunnel = tunnel
        self._receive = self._receive_tunnel
        if self._paused:
            self._resume_transport()
        if data:
            tunnel.bytesReceived(data)
        if self._read_ended:
            tunnel.sendingEnded()

    def _receive_tunnel(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.bytesReceived(data)

    def endSending(self) -> None:
        """Nothing more goes into the tunnel.  TLS has no half to close: it closes, and still reads awhile."""
        end_sending(self.transport, self.hurry)

    def hurry(self) -> None:
        """The client must end its side of the tunnel soon."""
        if not self._lost:
            self._watch_queue()

    # --- closing --------------------------------------------------------------------

    def _linger(self) -> None:
        """End our direction, and read until the client ends its own or has had time enough."""
        half_close = half_closer(self.transport)
        if half_close is None:
            self._close()  # TLS says that it closes, and reads until the client says so too
            return
        self._receive = self._lingering
        self._linger_until = self.site.now() + LONGEST_LINGER
        self._resume_transport()
        self._watch_queue()
        half_close()

    def _lingering(self, data: bytes) -> None:
        """What still comes while the last answer is on its way, and after that."""
        self._linger_on()

    def _linger_on(self) -> None:
        """As long as more comes the client is not reading yet: closing now could destroy its answer."""
        if not (self._lost or self.site.closing or self._queue_length()):
            self.deadline = min(self.site.now() + LINGER, self._linger_until)

    def _close(self) -> None:
        """Close when everything queued has been sent."""
        self._receive = self._closing
        self._linger_until = min(self._linger_until, self.site.now() + LONGEST_LINGER)
        self._watch_queue()
        self.transport.loseConnection()

    def _closing(self, data: bytes) -> None:
        """What still comes on a connection that has been closed, as it may over TLS."""
        self._linger_on()

    def _watch_queue(self) -> None:
        self._unsent = self._queue_length()
        self.deadline = self.site.now() + (STALL if self._unsent else LINGER)

    def _reset(self) -> None:
        self._receive = self._closing
        self.deadline = NEVER
        self.transport.abortConnection()

    def give_up(self, reason: Failure) -> None:
        """Reset the connection of a client that does not go on; whom it serves is told `reason`."""
        self._lose(reason)
        self._reset()

    def timedOut(self) -> None:
        """It has been idle for too long, or its end takes too long."""
        if self._receive not in (self._lingering, self._closing, self._receive_tunnel):
            self._close()
        elif self._queue_length() < self._unsent:
            self._watch_queue()  # the client is slow, but it reads
        elif self._receive == self._lingering and not self._unsent:
            self._close()
        else:
            self.give_up(Failure(ClientGivenUp("the client did not end its connection in time")))
