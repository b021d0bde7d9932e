"""
An exchange: one request on its way to a destination, and the response on its way back.

What both halves need of each other is decided here: which upstream connection,
whether to try again, how it ended.
"""

from __future__ import annotations

import json
from typing import Protocol
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from logging_proxy.capture.events import Capture
from logging_proxy.capture.records import OUTCOMES, Flag, Kind
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.answers import Answer
from logging_proxy.proxy.client import ProxyClient
from logging_proxy.proxy.failures import Verdict, verdict
from logging_proxy.proxy.farewell import reset_when_received
from logging_proxy.proxy.framing import Frame, Way, as_it_came, way_to_client
from logging_proxy.proxy.halves import Half
from logging_proxy.proxy.headers import onward_informational, onward_trailers, replace_trailers
from logging_proxy.proxy.pool import Pool

LAST = int(Flag.LAST)
_PIECE, _RESPONSE_PIECE = int(Kind.REQUEST_PIECE), int(Kind.RESPONSE_PIECE)
_HEAD, _TRAILERS = int(Kind.RESPONSE_HEAD), int(Kind.RESPONSE_TRAILERS)
_COMPLETE = (int(Kind.END), 0, bytes([OUTCOMES.index("complete")]))

ANSWERED_EARLY = (
    int(Kind.NOTE),
    0,
    json.dumps({"request": "answered before the request's body was complete"}).encode(),
)
"""Recorded before the END of an exchange whose request has no LAST piece."""

_SAFE_TO_REPEAT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Go's list, which leaves out the idempotent PUT and DELETE: nobody relies on them being sent twice."""


class ResponseHalf(Half):
    """
    From the upstream to the client: knows how the response's body is framed on both sides.

    Takes what the `ProxyClient` reads (`client.ResponseReceiver`).
    """

    __slots__ = ("_exchange", "_frame", "_named", "keep_alive", "started", "truncated")

    def __init__(self, exchange: Exchange, upstream: ProxyClient, capture: Capture | None) -> None:
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

    def headReceived(
        self, head: ResponseHead, payload: bytes, wire: bytes, done: bool, trailers: bytes
    ) -> None:
        exchange = self._exchange
        self.started = True
        if self._capture is not None:
            self._record(((_HEAD, 0, head.raw),), payload, done, trailers)
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
        if self._capture is not None:
            self._record((), payload, done, trailers)
        if trailers:
            wire = replace_trailers(wire, trailers, onward_trailers(trailers, self._named))
        self.pass_on(self._frame(payload, wire, done))
        if done:
            self.finished()

    def upstreamLost(self, reason: Failure) -> None:
        self._exchange.upstreamLost(reason)

    def cut(self) -> None:
        """No more will come, and the response is not whole."""
        self.truncated = True
        self.finished()

    def ended(self) -> None:
        if self.truncated:
            self._exchange.response_cut()
        else:
            self._exchange.response_ended()

    def _record(
        self, records: tuple[tuple[int, int, bytes], ...], payload: bytes, done: bool, trailers: bytes
    ) -> None:
        assert self._capture is not None
        if not done:
            if payload:
                records += ((_RESPONSE_PIECE, 0, payload),)
        else:
            records += ((_RESPONSE_PIECE, LAST, payload),)
            if trailers:
                records += ((_TRAILERS, 0, trailers),)
            records += self._exchange.last_records()
        if records:
            self._capture.passed(*records)

    def _way_of(self, head: ResponseHead, request: RequestHead, may_keep_alive: bool) -> Way:
        """How this head goes on; the same head to the same kind of client always goes the same way."""
        key = (request.method == b"HEAD", request.minor, may_keep_alive)
        way: Way | None = head.prepared.get(key)
        if way is None:
            way = head.prepared[key] = way_to_client(head, *key)
        return way


class RequestHalf(Half):
    """From the client to the upstream; knows whether the client has sent all of its request."""

    __slots__ = ("done",)

    def __init__(self, connection: ServerConnection, capture: Capture | None, done: bool) -> None:
        super().__init__(connection, capture)
        self.done = done

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        self.done = done
        if self._capture is not None:
            records: tuple[tuple[int, int, bytes], ...] = ((_PIECE, LAST if done else 0, payload),)
            if trailers:
                records += ((int(Kind.REQUEST_TRAILERS), 0, trailers),)
            self._capture.passed(*records)
        self.pass_on(wire)


class Owner(Protocol):
    """Who starts exchanges: a route."""

    pool: Pool

    def answer_failure(self, exchange: Exchange, verdict: Verdict) -> Answer:
        """What the client is told."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """The exchange is over, and its capture with it.  May be said more than once."""


class Exchange:
    """
    Forwards one request and its response.

    Is the `Responder` of the client's connection.  `first` is the request's
    head and what of its body was there with it, already recorded.
    """

    _log = Logger()

    __slots__ = (
        "_connecting",
        "_ended",
        "_first",
        "_owner",
        "_retried",
        "_upstream",
        "capture",
        "connection",
        "head",
        "id",
        "request",
        "response",
    )

    def __init__(
        self,
        id: bytes,
        connection: ServerConnection,
        head: RequestHead,
        capture: Capture | None,
        owner: Owner,
        first: bytes,
        done: bool,
    ) -> None:
        self.id = id
        self.connection = connection
        self.head = head
        self.capture = capture
        self.request = RequestHalf(connection, capture, done)
        self.response: ResponseHalf | None = None
        self._owner = owner
        self._first = first
        self._upstream: ProxyClient | None = None
        self._connecting: Deferred[ProxyClient] | None = None
        self._retried = False
        self._ended = False

    # --- the upstream ---------------------------------------------------------------------

    def begin(self) -> None:
        """Send the request on the youngest idle connection, or on a new one."""
        upstream = self._owner.pool.take()
        if upstream is not None:
            self._send_on(upstream)
            return
        self.request.pass_on(self._first)
        self._connect()

    def _connect(self) -> None:
        self._connecting = self._owner.pool.connect()
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, upstream: ProxyClient) -> None:
        self._connecting = None
        self._start_on(upstream)
        self.request.flow_to(upstream)

    def _not_connected(self, reason: Failure) -> None:
        self._connecting = None
        if not self._ended:
            self._fail(verdict(reason))

    def _start_on(self, upstream: ProxyClient) -> None:
        self._upstream = upstream
        self.response = ResponseHalf(self, upstream, self.capture)
        upstream.begin(self.response, self.head.method)

    def _send_on(self, upstream: ProxyClient) -> None:
        self._start_on(upstream)
        self.request.sink = upstream
        self.request.pass_on(self._first)

    def upstreamLost(self, reason: Failure) -> None:
        """The response will not become complete."""
        upstream = self._upstream
        if self._ended or upstream is None:
            return
        if self._may_try_again(upstream, reason):
            self._try_again(reason)
        else:
            self._fail(verdict(reason))

    def _may_try_again(self, upstream: ProxyClient, reason: Failure) -> bool:
        """
        Only what is safe to do twice, once, and only when the connection was an old one.

        It may have been closed before the request came (RFC 9110 §9.2.2).
        """
        response = self.response
        return (
            upstream.uses > 1
            and not self._retried
            and response is not None
            and not response.started
            and not upstream.heard
            and self.head.method in _SAFE_TO_REPEAT
            and self.request.done
            and not self.head.chunked
            and not self.head.content_length
            and verdict(reason).outcome in ("upstream_closed", "upstream_reset")
        )

    def _try_again(self, reason: Failure) -> None:
        self._retried = True
        self._upstream = None
        if self.response is not None:
            self.response.stop()
        self.request.stop()
        self.request = RequestHalf(self.connection, self.capture, True)
        if self.capture is not None:
            note = {"retry": {"reason": verdict(reason).error}}
            self.capture.passed((int(Kind.NOTE), 0, json.dumps(note).encode()))
        self.request.pass_on(self._first)
        self._connect()

    # --- the client ---------------------------------------------------------------------------

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        if self._ended:
            return
        if trailers:
            kept = onward_trailers(trailers, self.head.connection_options)
            wire, trailers = replace_trailers(wire, trailers, kept), kept
        self.request.bodyReceived(payload, wire, done, trailers)
        if self._upstream is not None:
            self._upstream.sending()

    def clientLost(self, reason: Failure) -> None:
        if self._ended:
            # The response was complete, or cut, but not all of it has been handed over.
            self._owner.exchange_ended(self)
        elif reason.check(RequestFault):
            assert isinstance(reason.value, RequestFault)
            reason.value.exchange = str(UUID(bytes=self.id))
            self._end("protocol_error", f"client: {reason.value}")
        else:
            self._end("client_closed", "")
        self._let_go_of_upstream()

    def interrupt(self, reason: Failure) -> None:
        """The proxy ends now."""
        if not self._ended:
            self._fail(verdict(reason))

    # --- the end ----------------------------------------------------------------------------------

    def last_records(self) -> tuple[tuple[int, int, bytes], ...]:
        """What is recorded together with the response's last byte."""
        self._ended = True
        return (_COMPLETE,) if self.request.done else (ANSWERED_EARLY, _COMPLETE)

    def response_ended(self) -> None:
        """All of the response has been handed to the client's connection."""
        self._ended = True
        response, upstream = self.response, self._upstream
        assert response is not None and upstream is not None
        request = self.request
        keep_alive = response.keep_alive and request.done
        # What still waits here would never follow; the upstream would take the next request for it.
        request_sent = request.done and request.idle
        request.stop()
        response.stop()
        self._upstream = None
        if request_sent:
            upstream.release()
        else:
            upstream.forsake()
        self._owner.exchange_ended(self)
        self.connection.finish(keep_alive)

    def response_cut(self) -> None:
        """All that came of a response that is not whole has been handed to the client's connection."""
        if self.response is not None:
            self.response.stop()
        reset_when_received(self.connection)

    def _fail(self, verdict: Verdict) -> None:
        """The upstream's side is over without a complete response."""
        response = self.response
        if response is not None and response.started:
            self._end(verdict.outcome, verdict.error)
            self._let_go_of_request()
            response.cut()
            return
        self._ended = True
        answer = self._owner.answer_failure(self, verdict)
        if self.capture is not None:
            self.capture.passed(*answer.records, _end_record(verdict.outcome, verdict.error))
        self._let_go_of_upstream()
        self._owner.exchange_ended(self)
        answer.send(self.connection, self.capture)

    def _end(self, outcome: str, error: str) -> None:
        self._ended = True
        if self.capture is not None:
            self.capture.passed(_end_record(outcome, error))
        self._owner.exchange_ended(self)

    def _let_go_of_upstream(self) -> None:
        if self.response is not None:
            self.response.stop()
        self._let_go_of_request()

    def _let_go_of_request(self) -> None:
        self.request.stop()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.forsake()


def _end_record(outcome: str, error: str) -> tuple[int, int, bytes]:
    return (int(Kind.END), 0, bytes([OUTCOMES.index(outcome)]) + error.encode())
