"""
Interfaces that the engine's connections depend on: responders, receivers, tunnels, sites and pools.

The connections depend on these protocols and not on classes, so that there is no import cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from logging_proxy.http.bodies import ChunkedReader, LengthReader, Piece
from logging_proxy.http.deadlines import Deadlines, Watched
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import HeadCache, RequestHead, ResponseHead
from logging_proxy.http.limits import ClientLimits, ServerLimits
from logging_proxy.http.reuse import Reuse

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import FastPath

Connection = TypeVar("Connection", contravariant=True)


class Responder(Protocol):
    """
    Answers one request.

    Calls `finish` or `abort` of its connection once, and nothing after that.
    It may do so before the request's body is complete; of a body that has not
    come by then, nothing more is passed to it.
    """

    def bodyReceived(self, piece: Piece) -> None:
        """More of the request's body, or its end."""

    def read_buffer(self, most: int) -> memoryview | None:
        """
        Memory to read the next piece of the body into, at most `most` bytes; None for any.

        A piece that is read into it is given to `bodyReceived` at once.
        """

    def fast_path(
        self, source: Watched, body: LengthReader, now: Callable[[], float], patience: float
    ) -> FastPath | None:
        """
        A faster implementation of passing `body` on, if there is one; asked for once there is a read buffer.

        With each piece, `source`, the connection, gets a new deadline: `patience` seconds from `now`.
        """

    def requestRefused(self, fault: RequestFault, kept: bytes) -> None:
        """
        The body is malformed, or does not come: answer that, unless an answer has begun.

        `kept` is the part of it that was received and not passed on, or the beginning of that part.  Nothing
        more of the request is passed on, and `clientLost` is not called any more.
        """

    def clientLost(self, reason: Failure) -> None:
        """
        The client is gone; the connection must not be used any more.

        Called at most once, and not after `finish` or `abort`.
        """


class ResponseReceiver(Protocol):
    """Takes one response from an upstream."""

    def informationalReceived(self, head: ResponseHead) -> None:
        """A 1xx response; the final one is still to come."""

    def switchReceived(self, head: ResponseHead, data: bytes) -> None:
        """
        A 101, and the bytes after it.  Calls the connection's `switch`.

        Raises `ResponseFault` if the request has not asked for it.
        """

    def headReceived(self, head: ResponseHead, piece: Piece) -> None:
        """The final response's head, and the part of the body that was received with it."""

    def bodyReceived(self, piece: Piece) -> None:
        """More of the body, or its end."""

    def read_buffer(self, most: int) -> memoryview | None:
        """Memory to read the next piece of the body into, at most `most` bytes; None for any."""

    def fast_path(
        self, source: Watched, body: ChunkedReader | LengthReader, now: Callable[[], float], patience: float
    ) -> FastPath | None:
        """
        A faster implementation of passing `body` on, if there is one.

        With each piece, `source`, the connection, gets a new deadline: `patience` seconds from `now`.
        """

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        """
        The connection failed, or the response was refused, before it was complete.

        `kept` was received and not passed on.  The connection must not be used any more.
        """


class TunnelEnd(Protocol):
    """Receives a connection's bytes once protocols have been switched (RFC 9110 §7.8)."""

    def bytesReceived(self, data: bytes) -> None:
        """The peer has sent `data`."""

    def sendingEnded(self) -> None:
        """The peer has ended its direction in good order; it may still be sent to."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, or has been given up.  Called at most once, and last."""


class ConnectionSite(Protocol[Connection]):
    """The site that a client's connection belongs to."""

    clock: IReactorTime
    limits: ServerLimits
    heads: HeadCache[RequestHead]
    deadlines: Deadlines
    scheme: bytes
    closing: bool
    """No connection is kept alive any more."""

    @property
    def now(self) -> Callable[[], float]:
        """The clock of the deadlines."""

    @property
    def wall_seconds(self) -> Callable[[], float]:
        """The wall clock, for dates in responses."""

    @property
    def respond(self) -> Callable[[Connection, RequestHead, Piece], Responder | None]:
        """Starts to answer a request (see `IExchangeResource`)."""

    @property
    def refuse(self) -> Callable[[Connection, RequestFault, bytes], object]:
        """Answers a faulty request (see `IExchangeRoot`)."""

    def opened(self, connection: Connection) -> None:
        """The connection is there: watch its deadline."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""


class ConnectionPool(Protocol[Connection]):
    """The pool that an upstream's connection belongs to."""

    clock: IReactorTime
    limits: ClientLimits
    heads: HeadCache[ResponseHead]

    @property
    def now(self) -> Callable[[], float]:
        """The clock of the deadlines."""

    def opened(self, client: Connection) -> None:
        """The connection is there: watch its deadline."""

    def closed(self, client: Connection) -> None:
        """The connection is gone."""

    def put_back(self, client: Connection, reuse: Reuse) -> None:
        """The connection's response is complete; it may be used again as `reuse` says."""

    def forget(self, client: Connection) -> None:
        """The connection must not be used again."""
