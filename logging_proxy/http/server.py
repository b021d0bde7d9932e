"""
The server's side of the engine: one client connection.

The connection reads heads and bodies, and hands each request to the site's
resource when its head is there; the answer comes back through `send` and
`finish`.  Requests that arrive meanwhile wait in a bounded buffer: answers
keep the order of the requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from zope.interface import implementer

from logging_proxy.http.bodies import NO_BODY, BodyFault, BodyReader, request_body
from logging_proxy.http.deadlines import NEVER, Deadlines
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import HeadCache, RequestHead, parse_request_head
from logging_proxy.http.interfaces import IExchangeResource, Responder
from logging_proxy.http.wire import Send, gone, sender

LINGER = 5.0
"""
Seconds that input is still read and dropped after an answer that closes: closing
at once would reset the connection and could destroy the answer on its way
(RFC 9112 §9.6).  nginx has 5 s, Go 0.5 s.
"""

MOST_PIPELINED = 65536
"""Bytes of further requests that are read ahead, so that a client that leaves is noticed."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a client may do; seconds and bytes, as in the configuration's `server` section."""

    head_limit: int = 65536
    header_fields: int = 200
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    keep_alive_timeout: float = 75.0
    half_close_cancels: bool = True


@implementer(IHalfCloseableProtocol, IPushProducer)
class ServerConnection(Protocol):
    """One client's connection; also the producer of the requests' bodies."""

    _log = Logger()

    transport: Any

    def __init__(self, site: Site) -> None:
        self.site = site
        self.deadline = NEVER
        self.send: Send = gone
        self.peer: IAddress | None = None
        self.prepared: dict[object, bytes] = {}
        """What responders derive from the peer's address, kept for the next request."""
        self._limits = site.limits
        self._receive: Callable[[bytes], None] = self._receive_head
        self._buffer = b""
        self._body: BodyReader = NO_BODY
        self._responder: Responder | None = None
        self._keep_alive = True
        self._busy = False
        """A request is under way: from its head's end until `finish`."""
        self._lost = False

    # --- what the transport calls -------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.send = sender(transport)
        self.peer = transport.getPeer()
        self.deadline = self.site.now() + self._limits.keep_alive_timeout
        self.site.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._receive(data)

    def readConnectionLost(self) -> None:
        """The client has ended its sending: it has left, unless the configuration says it may still wait."""
        waits = self._busy and self._body.done and not self._limits.half_close_cancels
        if not waits:
            self._lose(Failure(connectionDone.value))
            self._close()

    def writeConnectionLost(self) -> None:
        """Our own half-close of a lingering connection has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lose(reason)
        self.send = gone
        self.site.closed(self)

    def _lose(self, reason: Failure) -> None:
        if self._lost:
            return
        self._lost = True
        self.deadline = NEVER
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.clientLost(reason)

    # --- reading heads --------------------------------------------------------

    def _receive_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            if data.startswith(b"\r\n"):
                data = data[2:]  # RFC 9112 §2.2: one empty line before a request is ignored
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._limits.head_limit:
                self._await_head(data)
                return
            raw = data[:end]
            try:
                head = self.site.heads.get(raw) or self.site.heads.parse(raw)
                self._dispatch(head, data[end:] if end < len(data) else b"")
            except RequestFault as fault:
                self.refuse(fault)
                return
            if self._busy or self._receive != self._receive_head:
                return
            data, self._buffer = self._buffer, b""

    def _await_head(self, data: bytes) -> None:
        """The head is not complete: keep what is there, unless it cannot become one."""
        if not data:
            return
        if len(data) > self._limits.head_limit:
            too_long = 431 if b"\r\n" in data[: self._limits.head_limit] else 414
            self.refuse(RequestFault(too_long, "request head too long"))
        elif data[0] < 0x21 and data != b"\r" or data[0] > 0x7E:
            self.refuse(RequestFault(400, "malformed request line"))
        else:
            if self._receive != self._awaiting_head:
                self._receive = self._awaiting_head
                self.deadline = self.site.now() + self._limits.head_timeout
            self._buffer = data

    def _awaiting_head(self, data: bytes) -> None:
        """In the middle of a head: the deadline is absolute and stays."""
        data = self._buffer + data
        if data.find(b"\r\n\r\n", max(0, len(self._buffer) - 3)) < 0:
            self._await_head(data)
        else:
            self._buffer = b""
            self._receive = self._receive_head
            self._receive_head(data)

    # --- one request ------------------------------------------------------------

    def _dispatch(self, head: RequestHead, data: bytes) -> None:
        body = request_body(head)
        payload = wire = b""
        if body is not NO_BODY:
            payload, wire, data = self._read_body(body, data)
        self._body = body
        self._buffer = data
        self._busy = True
        self._keep_alive = head.keep_alive
        if body.done:
            self._receive = self._receive_ahead
            self.deadline = NEVER
        else:
            self._receive = self._receive_body
            self.deadline = self.site.now() + self._limits.body_timeout
        responder = self.site.respond(self, head, payload, wire, body.done, body.trailers)
        if self._busy and not self._lost:
            self._responder = responder

    def _read_body(self, body: BodyReader, data: bytes) -> tuple[bytes, bytes, bytes]:
        try:
            return body.feed(data)
        except BodyFault as fault:
            raise RequestFault(400, str(fault)) from None

    def _receive_body(self, data: bytes) -> None:
        body, responder = self._body, self._responder
        try:
            payload, wire, rest = self._read_body(body, data)
        except RequestFault as fault:
            self._responder = None
            if responder is not None:
                responder.clientLost(Failure(fault))
            self.refuse(fault)
            return
        if body.done:
            self.deadline = NEVER
            self._receive = self._receive_ahead
            self._buffer = rest
        else:
            self.deadline = self.site.now() + self._limits.body_timeout
        if responder is not None and (payload or wire or body.done):
            responder.bodyReceived(payload, wire, body.done, body.trailers)

    def _receive_ahead(self, data: bytes) -> None:
        """Bytes of the next requests, while this one is being answered."""
        self._buffer += data
        if len(self._buffer) > MOST_PIPELINED:
            self._pause_transport()

    def _receive_nothing(self, data: bytes) -> None:
        """What still comes on a connection that is closing."""

    # --- flow control: the request's body ----------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading the request's body; its idle time does not run while we hold it."""
        self.deadline = NEVER
        self._pause_transport()

    def resumeProducing(self) -> None:
        if self._lost:
            return
        if not self._body.done:
            self.deadline = self.site.now() + self._limits.body_timeout
        self._resume_transport()

    def stopProducing(self) -> None:
        self.abort()

    def _pause_transport(self) -> None:
        if self.transport is not None and not self._lost:
            self.transport.pauseProducing()

    def _resume_transport(self) -> None:
        if self.transport is not None and not self._lost:
            self.transport.resumeProducing()

    # --- answering ------------------------------------------------------------------

    @property
    def may_keep_alive(self) -> bool:
        """Whether the answer may leave the connection open, as far as client, request and site go."""
        return self._keep_alive and self._body.done and not self.site.closing

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete, and has told the client whether the connection stays."""
        self._busy = False
        self._responder = None
        if self._lost:
            return
        if not keep_alive:
            self._finish_and_close()
            return
        self._receive = self._receive_head
        self.deadline = self.site.now() + self._limits.keep_alive_timeout
        if self._buffer:
            self._resume_transport()
            self.site.clock.callLater(0, self._receive_ahead_now)

    def _receive_ahead_now(self) -> None:
        if self._buffer and not self._busy and not self._lost and self._receive == self._receive_head:
            self._receive_head(b"")

    def _finish_and_close(self) -> None:
        if self._body.done and not self._buffer:
            self._close()
        else:
            self._linger()

    def refuse(self, fault: RequestFault) -> None:
        """Answer `fault` and close."""
        self._busy = True
        self._body = NO_BODY
        self.site.refuse(self, fault)
        self._busy = False
        if not self._lost:
            self._linger()

    def _linger(self) -> None:
        self._receive = self._receive_nothing
        self.deadline = self.site.now() + LINGER
        self._resume_transport()
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is not None and not getattr(self.transport, "TLS", False):
            half_close()
        else:
            self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Reset the connection: the client must see that the answer is not whole."""
        self._busy = False
        self._responder = None
        self._receive = self._receive_nothing
        if self.transport is not None and not self._lost:
            self.transport.abortConnection()

    # --- time and the end of the service ---------------------------------------------

    def timedOut(self) -> None:
        """A head, a body or the next request did not come in time, or lingering is over."""
        if self._receive == self._awaiting_head:
            self.refuse(RequestFault(408, "request head not complete in time"))
        elif self._receive == self._receive_body:
            fault = RequestFault(408, "request body idle for too long")
            responder, self._responder = self._responder, None
            if responder is not None:
                responder.clientLost(Failure(fault))
            self.abort()
        elif self._receive == self._receive_nothing:
            self.abort()
        else:
            self._close()

    def close_when_idle(self) -> None:
        """The site is closing: an idle connection ends now, a busy one after its answer."""
        if not self._busy and self._receive in (self._receive_head, self._awaiting_head):
            self._close()


class Site(ServerFactory):
    """
    Carries a tree of twisted.web resources over HTTP/1.1.

    `root` is any `IResource`; one that provides `IExchangeResource` is given
    requests at the end of their heads, any other the twisted.web way.
    """

    noisy = False

    def __init__(
        self, root: IResource, clock: IReactorTime, limits: ServerLimits, secure: bool = False
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.scheme = b"https" if secure else b"http"
        self.heads = HeadCache(parse_request_head, limits.header_fields)
        self.deadlines = Deadlines(clock)
        self.now = clock.seconds
        self.closing = False
        self.connections: set[ServerConnection] = set()
        self.root = root

    @property
    def root(self) -> IResource:
        return self._root

    @root.setter
    def root(self, root: IResource) -> None:
        self._root = root
        if IExchangeResource.providedBy(root):
            self.respond = root.respond
        else:
            from logging_proxy.http.resources import ResourceRoot

            self.respond = ResourceRoot(root).respond

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection:
        return ServerConnection(self)

    def opened(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        self.deadlines.watch(connection)

    def closed(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        self.deadlines.forget(connection)

    def refuse(self, connection: ServerConnection, fault: RequestFault) -> None:
        connection.send(own_answer(fault.status, fault.reason, self.clock.seconds()))

    def close(self) -> None:
        """No connection is kept alive from now on; idle ones are closed."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_when_idle()


REASONS = {
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def own_answer(status: int, text: str, seconds: float) -> bytes:
    """A whole plain-text answer of ours that closes the connection."""
    body = text.encode() + b"\n"
    lines = (
        b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b"Error")),
        b"Date: " + formatdate(seconds, usegmt=True).encode(),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"",
        body,
    )
    return b"\r\n".join(lines)
