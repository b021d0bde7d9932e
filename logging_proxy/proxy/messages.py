"""The two directions of an exchange that know HTTP: the request's and the response's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from logging_proxy.http.bodies import ChunkedReader, LengthReader, Piece
from logging_proxy.http.deadlines import Watched
from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.directions import Direction
from logging_proxy.proxy.framing import Frame, Way, as_it_came, way_to_client
from logging_proxy.proxy.headers import onward_informational
from logging_proxy.proxy.stored import REQUEST_PIECE, RESPONSE_PIECE, piece_records, response_records
from logging_proxy.recording.events import Capture, ExchangeEvent, Publish
from logging_proxy.recording.records import Kind

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import FastPath

MOMENT = 0.025
"""Seconds that an upstream has to end a response after its client has left."""


class AroundResponse(Protocol):
    """The exchange that a response belongs to, as its direction knows it."""

    id: bytes
    """The exchange's UUID."""
    publish: Publish
    """Publishes the exchange's events."""

    @property
    def head(self) -> RequestHead:
        """The request's head."""

    @property
    def connection(self) -> ServerConnection:
        """The client's connection."""

    @property
    def request(self) -> RequestDirection:
        """The other direction."""

    def switch(self, head: ResponseHead, data: bytes) -> None:
        """The upstream has answered 101, followed by `data`.  Raises `ResponseFault`."""

    def end(self) -> None:
        """Response and recording are complete: later events do not change the outcome."""

    def response_ended(self) -> None:
        """All of the response has been handed to the client's connection."""

    def response_cut(self) -> None:
        """All received bytes of an incomplete response have been handed to the client's connection."""

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        """The response will not become complete; `kept` was received of it and not passed on."""

    def client_left(self, error: str) -> None:
        """The client is gone before its response was complete."""


class ResponseDirection(Direction):
    """
    From the upstream to the client: knows how the response's body is framed on both sides.

    It is the `ResponseReceiver` of the upstream's connection.
    """

    __slots__ = ("_exchange", "_frame", "keep_alive", "started", "truncated")

    def __init__(self, exchange: AroundResponse, upstream: ProxyClient, capture: Capture | None) -> None:
        super().__init__(upstream, capture)
        self._exchange = exchange
        self._frame: Frame = as_it_came
        self.started = False
        self.truncated = False
        self.keep_alive = False
        self.sink = exchange.connection

    def informationalReceived(self, head: ResponseHead) -> None:
        if self._capture is not None:
            self._capture.passed((int(Kind.INFORMATIONAL), 0, head.raw))
        if self._exchange.head.minor:  # RFC 9110 §15.2: never to an HTTP/1.0 client
            self.pass_on(onward_informational(head))

    def switchReceived(self, head: ResponseHead, data: bytes) -> None:
        self._exchange.switch(head, data)

    def headReceived(self, head: ResponseHead, piece: Piece) -> None:
        exchange = self._exchange
        self.started = True
        self._publish(head.raw, piece)
        way = self._way_of(head, exchange.head, exchange.connection.may_keep_alive)
        onward, self._frame, self.keep_alive = way
        if piece.framed or piece.last:
            onward += self._frame(piece)
        self.pass_on(onward)
        if piece.last:
            self.finished()

    def bodyReceived(self, piece: Piece) -> None:
        if piece.last:
            self._publish(b"", piece)
        else:
            self._counted += len(piece.content)
            if piece.content and self._capture is not None:
                self._capture.passed((RESPONSE_PIECE, 0, piece.content))
        self.pass_on(self._frame(piece))
        if piece.last:
            self.finished()

    def fast_path(
        self,
        source: Watched,
        body: ChunkedReader | LengthReader,
        now: Callable[[], float],
        patience: float,
    ) -> FastPath | None:
        """A faster implementation for whole chunks, or pieces of a counted body, if the framing stays."""
        if self._frame is not as_it_came:
            return None
        return self._fast_path(
            body, RESPONSE_PIECE, source=source, role="_receiver", receiver=self, now=now, patience=patience
        )

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        self._exchange.upstreamLost(reason, kept)

    def sink_stalls(self) -> None:
        self._exchange.connection.stalls()

    def sink_flows(self) -> None:
        self._exchange.connection.flows()

    def cut(self) -> None:
        """The response ends here, incomplete."""
        self.truncated = True
        self.finished()

    def ended(self) -> None:
        if self.truncated:
            self._exchange.response_cut()
        else:
            self._exchange.response_ended()

    def _publish(self, head: bytes, piece: Piece) -> None:
        """The response's head, or its end, or both, with the piece of the body that came along."""
        exchange, capture = self._exchange, self._capture
        self._counted += len(piece.content)
        event: ExchangeEvent = {"exchange": exchange.id, "capture": capture, "records": ()}
        if capture is not None:
            event["records"] = response_records(head, piece, exchange.request.done)
        if head:
            event["response"] = head
        if piece.last:
            event["outcome"] = "complete"
            event["error"] = ""
            event["sent"] = exchange.request.size
            event["received"] = self.size
            exchange.end()
        exchange.publish(event)

    def _way_of(self, head: ResponseHead, request: RequestHead, may_keep_alive: bool) -> Way:
        """How `head` is forwarded; computed once for equal heads and each kind of client."""
        key = (request.method == b"HEAD", request.minor, may_keep_alive)
        way: Way | None = head.prepared.get(key)
        if way is None:
            way = head.prepared[key] = way_to_client(head, *key)
        return way


class AwaitingEnd(ResponseDirection):
    """
    Takes over a response whose client has left after it had received everything so far.

    Clients of event streams close after the event that is marked as the last one, often before
    the end of the body has arrived.  If that end follows within a moment, and without
    further content, the response was complete; otherwise the client has missed a part of it.
    """

    __slots__ = ("_timer",)

    def __init__(self, exchange: AroundResponse, upstream: ProxyClient, capture: Capture, size: int) -> None:
        """`size` is what the response has so far."""
        super().__init__(exchange, upstream, capture)
        self._counted = size
        self.started = True
        self._timer: IDelayedCall | None = exchange.connection.site.clock.callLater(MOMENT, self._give_up)

    def bodyReceived(self, piece: Piece) -> None:
        if piece.content:
            self._give_up()
        elif piece.last:
            self._publish(b"", piece)
            self.finished()

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        self._give_up()

    def _give_up(self) -> None:
        self.stop()
        self._exchange.client_left("")

    def stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        super().stop()


class RequestDirection(Direction):
    """From the client to the upstream; knows whether the client has sent all of its request."""

    __slots__ = ("done",)

    def __init__(
        self, connection: ServerConnection, capture: Capture | None, done: bool, size: int = 0
    ) -> None:
        """`size` is the number of the body's bytes that came with the head."""
        super().__init__(connection, capture)
        self.done = done
        self._counted = size

    def fast_path(
        self,
        exchange: object,
        source: Watched,
        body: LengthReader,
        now: Callable[[], float],
        patience: float,
    ) -> FastPath | None:
        """A faster implementation for pieces of a body with a length."""
        sink = self.sink
        assert isinstance(sink, ProxyClient)
        return self._fast_path(
            body,
            REQUEST_PIECE,
            (exchange, "_ended"),
            (source, "_awaits_continue"),
            source=source,
            role="_responder",
            receiver=exchange,
            sending=sink.sending,
            now=now,
            patience=patience,
        )

    def bodyReceived(self, piece: Piece) -> None:
        self.done = piece.last
        self._counted += len(piece.content)
        if self._capture is not None:
            records = piece_records(REQUEST_PIECE, piece, piece.onward_trailers)
            if records:  # not for the line of a chunk alone
                self._capture.passed(*records)
        self.pass_on(piece.framed)
