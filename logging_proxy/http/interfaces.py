"""What the engine and those who answer requests may rely on of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.python.failure import Failure
from zope.interface import Interface

if TYPE_CHECKING:
    from logging_proxy.http.bodies import LengthReader
    from logging_proxy.http.connection import ServerConnection
    from logging_proxy.http.faults import RequestFault
    from logging_proxy.http.heads import RequestHead
    from logging_proxy.net.shortcut._compiled import Passage


class Responder(Protocol):
    """
    Answers one request.

    Calls `finish` or `abort` of its connection once, and nothing after that.
    It may do so before the request's body is complete; of a body that has not
    come by then, nothing more is passed to it.
    """

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        """More of the request's body, or its end."""

    def landing(self, most: int) -> memoryview | None:
        """
        Memory to read the next piece of the body into, at most `most` bytes; None for any.

        A piece that is read into it is given to `bodyReceived` at once, as both payload and wire bytes.
        """

    def shortcut(
        self, source: ServerConnection, body: LengthReader, now: Callable[[], float], patience: float
    ) -> Passage | None:
        """
        A shorter way for what is usual of `body`, if there is one.  Asked for after a `landing` was given.

        Each piece gives `source` time until `patience` seconds from `now`.
        """

    def requestRefused(self, fault: RequestFault, kept: bytes) -> None:
        """
        The body is malformed, or does not come: answer that, unless an answer has begun.

        `kept` is what came of it and was not passed on, or the beginning of that.  Nothing more of the
        request is passed on, and `clientLost` is not called any more.
        """

    def clientLost(self, reason: Failure) -> None:
        """
        The client is gone; the connection must not be used any more.

        Called at most once, and not after `finish` or `abort`.
        """


class TunnelEnd(Protocol):
    """Has a connection's bytes once protocols have been switched (RFC 9110 §7.8)."""

    def bytesReceived(self, data: bytes) -> None:
        """The peer has sent `data`."""

    def sendingEnded(self) -> None:
        """The peer has ended its direction in good order; it may still be sent to."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, or has been given up.  Called at most once, and last."""


class IExchangeResource(Interface):
    """A resource that answers a request from its head on, while the body is still arriving."""

    def respond(
        connection: ServerConnection,
        head: RequestHead,
        payload: bytes,
        wire: bytes,
        done: bool,
        trailers: bytes,
    ) -> Responder | None:
        """
        Start to answer.

        The body's first bytes come along (perhaps none, perhaps all of it, then
        `done` is true), so that head and body can be passed on together.  None
        when the answer is complete already.  May raise `RequestFault`, if nothing
        has been sent yet; with any other exception the connection is reset.
        """


class IExchangeRoot(IExchangeResource):
    """The root of a tree of resources, which answers what is no request as well."""

    def refuse(connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        """
        Answer a request whose head is malformed, too long or late, and `finish`.

        `kept` is what came of it, or the beginning of that.
        """
