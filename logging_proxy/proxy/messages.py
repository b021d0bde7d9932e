"""The two directions of an exchange that know HTTP: the request's and the response's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from logging_proxy.http.bodies import ChunkedReader, LengthReader
from logging_proxy.http.deadlines import Watched
from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.directions import Direction
from logging_proxy.proxy.endings import last_records
from logging_proxy.proxy.framing import Frame, Way, as_it_came, way_to_client
from logging_proxy.proxy.headers import onward_informational, onward_trailers, replace_trailers
from logging_proxy.recording.events import Capture, ExchangeEvent, Publish
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.recording.writer import Passed

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import Passage

LAST = int(Flag.LAST)
_PIECE, _RESPONSE_PIECE = int(Kind.REQUEST_PIECE), int(Kind.RESPONSE_PIECE)
_HEAD, _TRAILERS = int(Kind.RESPONSE_HEAD), int(Kind.RESPONSE_TRAILERS)

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
    def request(self) -> RequestHalf:
        """The other direction."""

    def switch(self, head: ResponseHead, data: bytes) -> None:
        """The upstream has answered 101; `data` came behind it.  Raises `ResponseFault`."""

    def end(self) -> None:
        """The response is complete, and so is the recording: nothing that happens now changes the outcome."""

    def response_ended(self) -> None:
        """All of the response has been handed to the client's connection."""

    def response_cut(self) -> None:
        """All that came of a response that is not whole has been handed to the client's connection."""

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        """The response will not become complete; `kept` came of it and was not passed on."""

    def client_left(self, error: str) -> None:
        """The client is gone before its response was complete."""


class ResponseHalf(Direction):
    """
    From the upstream to the client: knows how the response's body is framed on both sides.

    It is the `ResponseReceiver` of the upstream's connection.
    """

    __slots__ = ("_exchange", "_frame", "_named", "keep_alive", "started", "truncated")

    def __init__(self, exchange: AroundResponse, upstream: ProxyClient, capture: Capture | None) -> None:
        super().__init__(upstream, capture)
        self._exchange = exchange
        self._frame: Frame = as_it_came
        self._named: frozenset[bytes] = frozenset()
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

    def headReceived(
        self, head: ResponseHead, payload: bytes, wire: bytes, done: bool, trailers: bytes
    ) -> None:
        exchange = self._exchange
        self.started = True
        self._publish(head.raw, payload, done, trailers)
        way = self._way_of(head, exchange.head, exchange.connection.may_keep_alive)
        onward, self._frame, self.keep_alive = way
        self._named = head.connection_options
        if trailers:
            wire = replace_trailers(wire, trailers, onward_trailers(trailers, head.connection_options))
        if wire or done:
            self.pass_on(onward + self._frame(payload, wire, done))
        else:
            self.pass_on(onward)
        if done:
            self.finished()

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        if done:
            self._publish(b"", payload, done, trailers)
        else:
            self._counted += len(payload)
            if payload and self._capture is not None:
                self._capture.passed((_RESPONSE_PIECE, 0, payload))
        if trailers:
            wire = replace_trailers(wire, trailers, onward_trailers(trailers, self._named))
        self.pass_on(self._frame(payload, wire, done))
        if done:
            self.finished()

    def shortcut(
        self,
        source: Watched,
        body: ChunkedReader | LengthReader,
        now: Callable[[], float],
        patience: float,
    ) -> Passage | None:
        """A faster way for whole chunks, or pieces of a body with a length, if the framing stays."""
        if self._frame is not as_it_came:
            return None
        return self._passage(
            body, _RESPONSE_PIECE, source=source, role="_receiver", receiver=self, now=now, patience=patience
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

    def _publish(self, head: bytes, payload: bytes, done: bool, trailers: bytes) -> None:
        """The response's head, or its end, or both, with the piece of the body that came along."""
        exchange, capture = self._exchange, self._capture
        self._counted += len(payload)
        event: ExchangeEvent = {"exchange": exchange.id, "capture": capture, "records": ()}
        if capture is not None:
            event["records"] = self._records(head, payload, done, trailers)
        if head:
            event["response"] = head
        if done:
            event["outcome"] = "complete"
            event["error"] = ""
            event["sent"] = exchange.request.size
            event["received"] = self.size
            exchange.end()
        exchange.publish(event)

    def _records(self, head: bytes, payload: bytes, done: bool, trailers: bytes) -> Passed:
        records: tuple[tuple[int, int, bytes], ...] = ((_HEAD, 0, head),) if head else ()
        if not done:
            return (*records, (_RESPONSE_PIECE, 0, payload)) if payload else records
        records += ((_RESPONSE_PIECE, LAST, payload),)
        if trailers:
            records += ((_TRAILERS, 0, trailers),)
        return records + last_records(self._exchange.request.done)

    def _way_of(self, head: ResponseHead, request: RequestHead, may_keep_alive: bool) -> Way:
        """How this head goes on; the same head to the same kind of client always goes the same way."""
        key = (request.method == b"HEAD", request.minor, may_keep_alive)
        way: Way | None = head.prepared.get(key)
        if way is None:
            way = head.prepared[key] = way_to_client(head, *key)
        return way


class AwaitingEnd(ResponseHalf):
    """
    Takes over a response whose client has left after it had received everything so far.

    Clients of event streams close after the event that says it is the last, often before
    the end of the body has arrived.  If that end follows within a moment, and without
    further payload, the response was complete; otherwise the client has missed a part of it.
    """

    __slots__ = ("_timer",)

    def __init__(self, exchange: AroundResponse, upstream: ProxyClient, capture: Capture, size: int) -> None:
        """`size` is what the response has so far."""
        super().__init__(exchange, upstream, capture)
        self._counted = size
        self.started = True
        self._timer: IDelayedCall | None = exchange.connection.site.clock.callLater(MOMENT, self._give_up)

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        if payload:
            self._give_up()
        elif done:
            self._publish(b"", payload, done, trailers)
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


class RequestHalf(Direction):
    """From the client to the upstream; knows whether the client has sent all of its request."""

    __slots__ = ("done",)

    def __init__(
        self, connection: ServerConnection, capture: Capture | None, done: bool, size: int = 0
    ) -> None:
        """`size` is the number of the body's bytes that came with the head."""
        super().__init__(connection, capture)
        self.done = done
        self._counted = size

    def shortcut(
        self,
        exchange: object,
        source: Watched,
        body: LengthReader,
        now: Callable[[], float],
        patience: float,
    ) -> Passage | None:
        """A faster way for pieces of a body with a length."""
        sink = self.sink
        assert isinstance(sink, ProxyClient)
        return self._passage(
            body,
            _PIECE,
            (exchange, "_ended"),
            (source, "_awaits_continue"),
            source=source,
            role="_responder",
            receiver=exchange,
            sending=sink.sending,
            now=now,
            patience=patience,
        )

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        self.done = done
        self._counted += len(payload)
        if self._capture is not None:
            records: tuple[tuple[int, int, bytes], ...] = ((_PIECE, LAST if done else 0, payload),)
            if trailers:
                records += ((int(Kind.REQUEST_TRAILERS), 0, trailers),)
            self._capture.passed(*records)
        self.pass_on(wire)
