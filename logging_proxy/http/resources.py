"""
Standard twisted.web resources on our engine.

A mounted resource gets a `twisted.web.server.Request`, for which `ResourceChannel` stands in as its
channel.  As in twisted.web, the resource renders when the request's body is complete, so this is for small
bodies; the resources of routes are `IExchangeResource`s, which stream.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress, IProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request
from twisted.web.server import Site as ResourceSite
from zope.interface import implementer

from logging_proxy.http import grammar
from logging_proxy.http.answers import own_answer
from logging_proxy.http.bodies import Piece
from logging_proxy.http.connection import ServerConnection
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeRoot


@implementer(IExchangeRoot)
class ResourceRoot:
    """Answers from a tree of standard resources."""

    def __init__(self, root: IResource, clock: IReactorTime) -> None:
        self._site = ResourceSite(root, parsePOSTFormSubmission=False, reactor=clock)

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> ResourceChannel:
        if head.method == b"CONNECT":
            raise RequestFault(501, "no tunnels here")
        channel = ResourceChannel(self._site, connection, head)
        if head.expect_continue and not piece.last:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        channel.bodyReceived(piece)
        return channel

    def refuse(self, connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        answer_fault(connection, fault, connection.site.wall_seconds())


def answer_fault(connection: ServerConnection, fault: RequestFault, now: float) -> None:
    """Answer a request with its fault, and close the connection."""
    connection.send(own_answer(fault.status, fault.reason, now))
    connection.finish(False)


class ResourceChannel:
    """
    Connects a `Request` of twisted.web with the client's connection.

    It writes with `transport.write`: a pull producer is asked for more only when the transport's queue has
    been emptied, so all bytes have to pass through that queue.
    """

    factory = None

    def __init__(self, site: ResourceSite, connection: ServerConnection, head: RequestHead) -> None:
        self.site = site
        self.transport: Any = connection.transport
        self._connection = connection
        self._head = head
        self._keep_alive = False
        self._producer: IProducer | None = None
        self._request = Request(self)
        for name, value in head.fields:
            self._request.requestHeaders.addRawHeader(name, value)
        self._request.parseCookies()
        self._request.gotLength(head.content_length if not head.chunked else None)

    # --- called by the engine ----------------------------------------------------

    def bodyReceived(self, piece: Piece) -> None:
        if piece.content:
            self._request.handleContentChunk(piece.content)
        if piece.last:
            head = self._head
            self._request.requestReceived(head.method, _origin_form(head.target), b"HTTP/1.%d" % head.minor)

    def fast_path(self, *of: object) -> None:
        """Requests with a Resource of twisted.web have no fast path."""

    def read_buffer(self, most: int) -> memoryview | None:
        return None

    def requestRefused(self, fault: RequestFault, kept: bytes) -> None:
        """No response has begun, since the resource renders when the body is complete."""
        self.clientLost(Failure(fault))
        answer_fault(self._connection, fault, self._connection.site.wall_seconds())

    def clientLost(self, reason: Failure) -> None:
        producer = self._producer
        if producer is not None:
            self.unregisterProducer()
            producer.stopProducing()
        self._request.connectionLost(reason)

    # --- called by the request ---------------------------------------------------

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host

    def isSecure(self) -> bool:
        return self._connection.site.scheme == b"https"

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        framed = (
            int(code) in (204, 304)
            or self._head.method == b"HEAD"
            or headers.hasHeader(b"content-length")
            or headers.hasHeader(b"transfer-encoding")
        )
        said = [value.lower() for value in headers.getRawHeaders(b"connection", [])]
        may_stay = self._connection.may_keep_alive and self._head.minor == 1 and b"close" not in said
        self._keep_alive = framed and may_stay
        lines = [b"HTTP/1.1 ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        if not self._keep_alive and b"close" not in said:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        self.write(b"".join(lines))

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.transport.writeSequence(pieces)

    def requestDone(self, request: Request) -> None:
        self._connection.finish(self._keep_alive)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._producer = producer
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.transport.unregisterProducer()

    def loseConnection(self) -> None:
        self._connection.abort()
        self.clientLost(Failure(ConnectionAborted()))


def _origin_form(target: bytes) -> bytes:
    """Path and query of `target`, the only parts of a URL that a tree of resources uses."""
    match = grammar.absolute_form.fullmatch(target)
    if match is None:
        return target
    return match[2] if match[2].startswith(b"/") else b"/" + match[2]
