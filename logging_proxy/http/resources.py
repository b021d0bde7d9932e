"""
Standard twisted.web resources on our engine.

A mounted resource gets a real `twisted.web.server.Request`; what that class
expects of its channel is `ResourceChannel`.  As in twisted.web, the request's
body is complete before the resource renders: this way is for small things, the
routes go another (`IExchangeResource`).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request
from twisted.web.server import Site as ResourceSite
from zope.interface import implementer

from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeResource
from logging_proxy.http.server import ServerConnection


@implementer(IExchangeResource)
class ResourceRoot:
    """Answers from a tree of standard resources."""

    def __init__(self, root: IResource) -> None:
        self._site = ResourceSite(root, parsePOSTFormSubmission=False)

    def respond(
        self,
        connection: ServerConnection,
        head: RequestHead,
        payload: bytes,
        wire: bytes,
        done: bool,
        trailers: bytes,
    ) -> ResourceChannel:
        channel = ResourceChannel(self._site, connection, head)
        channel.bodyReceived(payload, wire, done, trailers)
        return channel


class ResourceChannel:
    """Between one `Request` of twisted.web and the connection it came on."""

    def __init__(self, site: ResourceSite, connection: ServerConnection, head: RequestHead) -> None:
        self.site = site
        self.factory = None
        self.transport: Any = connection.transport
        self._connection = connection
        self._head = head
        self._keep_alive = False
        self._request = Request(self)
        for line in head.lines:
            name, _, value = line.partition(b":")
            self._request.requestHeaders.addRawHeader(name, value.strip())
        self._request.parseCookies()
        self._request.gotLength(head.content_length if not head.chunked else None)

    # --- what the engine calls ----------------------------------------------------

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        if payload:
            self._request.handleContentChunk(payload)
        if done:
            version = b"HTTP/1.%d" % self._head.minor
            self._request.requestReceived(self._head.method, self._head.target, version)

    def clientLost(self, reason: Failure) -> None:
        self._request.connectionLost(reason)

    # --- what the request calls ---------------------------------------------------

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
        self._keep_alive = framed and self._connection.may_keep_alive and self._head.minor == 1
        lines = [b"HTTP/1.1 ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        if not self._keep_alive:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        self._connection.send(b"".join(lines))

    def write(self, data: bytes) -> None:
        self._connection.send(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        self._connection.send(b"".join(pieces))

    def requestDone(self, request: Request) -> None:
        self._connection.finish(self._keep_alive)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.transport.unregisterProducer()

    def loseConnection(self) -> None:
        self._connection.abort()
