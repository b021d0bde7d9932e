"""
One connection below HTTP, to a client or to an upstream: sending, flow control, a tunnel, and the loss of it.

Heads and bodies, how long a peer may take, and how a connection is closed in good order are for the two ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import protocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.gathering import Refusing
from logging_proxy.http.protocols import TunnelEnd
from logging_proxy.net.wire import (
    Send,
    discard_data,
    end_sending,
    lost,
    queue_length,
    read_directly,
    read_no_more,
    sender,
)


class Link(Refusing, protocol.Protocol):
    """
    One connection to a peer.

    A subclass sets `_receive`, which is called with every read.  `_peer_ended` is called when the peer
    has ended its direction, and `_peer_lost` when nothing can be sent to the peer any more.
    """

    transport: Any

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is the clock of the deadline."""
        self.deadline = NEVER
        self.send: Send = discard_data
        self._now = now
        self._queue_length: Callable[[], int] = int
        self._receive: Callable[[bytes], object] = discard_data
        self._tunnel: TunnelEnd | None = None
        self._paused = False
        self._read_ended = False
        self._lost = False
        """The connection is lost, or has been given up: nothing can be sent any more."""
        self._send_failed = False
        """A send has found the connection lost; a read would now report an orderly end instead."""

    # --- the transport's calls ----------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.send = sender(transport, self._note_failed_send)
        self._queue_length = queue_length(transport)
        self._reader = read_directly(transport, self.dataReceived, self._read_buffer)

    def dataReceived(self, data: bytes) -> None:
        self._receive(data)

    def _note_failed_send(self) -> None:
        self._send_failed = True

    def readConnectionLost(self) -> None:
        """The peer has ended its sending."""
        self._read_ended = True
        if self._send_failed:
            self.give_up(Failure(CONNECTION_LOST))
        elif self._tunnel is not None:
            self._tunnel.sendingEnded()
        else:
            self._peer_ended()

    def writeConnectionLost(self) -> None:
        """Everything has been sent, and our direction has ended."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lose(lost(reason) if self._send_failed else reason)
        self.deadline = NEVER
        self._receive = self.send = discard_data  # no cycles, no transport kept alive
        self._queue_length = int
        self._reader = None
        read_no_more(self.transport)

    # --- for subclasses -------------------------------------------------------------

    def _read_buffer(self) -> memoryview | None:
        """Memory to read the next piece of a long body into; None for any."""
        return None

    def _peer_ended(self) -> None:
        """The peer has ended its sending, and there is no tunnel."""

    def _peer_lost(self, reason: Failure) -> None:
        """The connection is lost, or has been given up; called once."""

    def hurry(self) -> None:
        """The peer must end its side of the tunnel soon."""

    # --- flow control -----------------------------------------------------------------

    def _pause_transport(self) -> None:
        if not self._lost:
            self._paused = True
            self.transport.pauseProducing()

    def _resume_transport(self) -> None:
        if not self._lost:
            self._paused = False
            if not self._read_ended:  # the transport would report the end a second time
                self.transport.resumeProducing()

    @property
    def unsent(self) -> int:
        """Bytes that wait until the peer has read those sent before them."""
        return self._queue_length()

    # --- after a switch of protocols ----------------------------------------------------

    def _begin_tunnel(self, tunnel: TunnelEnd, data: bytes) -> None:
        """All input from now on is for `tunnel`, beginning with `data`, which has been received already."""
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
        """Half-close: no more bytes go into the tunnel.  TLS closes both directions, and still reads."""
        end_sending(self.transport, self.hurry)

    # --- the end ----------------------------------------------------------------------------

    def give_up(self, reason: Failure) -> None:
        """Reset the connection; `reason` is passed to the responder, the receiver or the tunnel."""
        self._lose(reason)
        self._reset()

    def _lose(self, reason: Failure) -> None:
        """The connection is lost, or is given up: pass `reason` on, once."""
        if self._lost:
            return
        self._lost = True
        self.deadline = NEVER
        self.send = discard_data
        self._peer_lost(reason)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.connectionLost(reason)

    def _reset(self) -> None:
        self.deadline = NEVER
        self.transport.abortConnection()
