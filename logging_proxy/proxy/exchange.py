"""
An exchange: one request on its way to a destination, and the response on its way back.

It decides for both directions: on the upstream connection, on a retry, and on the outcome.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from logging_proxy.http.bodies import LengthReader, Piece
from logging_proxy.http.deadlines import Watched
from logging_proxy.http.faults import ClientGivenUp, RequestFault, ResponseFault
from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.pool import Pool
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.server import ServerConnection
from logging_proxy.outbound.failures import ProxyConnectFailed
from logging_proxy.proxy.answers import Answer
from logging_proxy.proxy.delayed_reset import reset_when_received
from logging_proxy.proxy.failures import Verdict, cut_short, refused_request, verdict
from logging_proxy.proxy.headers import onward_switch
from logging_proxy.proxy.messages import AwaitingEnd, RequestDirection, ResponseDirection
from logging_proxy.proxy.stored import Records, end_record, refused_record
from logging_proxy.proxy.tunnel import Tunnel
from logging_proxy.proxy.upgrade import asked_protocols, switches_to
from logging_proxy.recording.events import Capture, Publish
from logging_proxy.recording.records import Kind
from logging_proxy.recording.writer import Passed

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import FastPath

_SAFE_TO_REPEAT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Go's list, which leaves out the idempotent PUT and DELETE: no server expects them a second time."""


class Owner(Protocol):
    """The starter of exchanges: a route."""

    pool: Pool
    publish: Publish

    def answer_failure(self, exchange: Exchange, verdict: Verdict) -> Answer:
        """The response for the client."""

    def unasked(self, after: bytes, kept: bytes) -> None:
        """The upstream has sent `kept` after the response of exchange `after`, without a request."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """The exchange is over, and its capture with it.  May be called more than once."""


class Exchange:
    """
    Forwards one request and its response.

    It is the `Responder` of the client's connection.  `first` is the request's head and the part of its
    body that was received with it; both are recorded already.
    """

    _log = Logger()

    __slots__ = (
        "_connecting",
        "_ended",
        "_first",
        "_owner",
        "_retried",
        "_tunnel",
        "_upstream",
        "capture",
        "connection",
        "head",
        "id",
        "publish",
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
        size: int = 0,
    ) -> None:
        """`size` is the number of bytes of the body in `first`."""
        self.id = id
        self.connection = connection
        self.head = head
        self.capture = capture
        self.publish = owner.publish
        self.request = RequestDirection(connection, capture, done, size)
        self.response: ResponseDirection | None = None
        self._owner = owner
        self._first = first
        self._upstream: ProxyClient | None = None
        self._connecting: Deferred[ProxyClient] | None = None
        self._tunnel: Tunnel | None = None
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
            kept = reason.value.kept if isinstance(reason.value, ProxyConnectFailed) else b""
            self._fail(verdict(reason), refused_record(Kind.RESPONSE_PIECE, kept))

    def _start_on(self, upstream: ProxyClient) -> None:
        self._upstream = upstream
        self.response = ResponseDirection(self, upstream, self.capture)
        upstream.begin(self.response, self.head.method, partial(self._owner.unasked, self.id))

    def _send_on(self, upstream: ProxyClient) -> None:
        self._start_on(upstream)
        self.request.sink = upstream
        self.request.pass_on(self._first)

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        """The response will not become complete; `kept` was received of it and not passed on."""
        upstream = self._upstream
        if self._ended or upstream is None:
            return
        if self._may_try_again(upstream, reason):
            self._try_again(reason)
        else:
            self._fail(self._verdict(reason, upstream), refused_record(Kind.RESPONSE_PIECE, kept))

    def _verdict(self, reason: Failure, upstream: ProxyClient) -> Verdict:
        response = self.response
        if response is None or not response.started:
            return verdict(reason)
        return cut_short(reason, response.size, upstream.seconds, upstream.lacking)

    def _may_try_again(self, upstream: ProxyClient, reason: Failure) -> bool:
        """
        Whether to send the request again: once, if its method is safe, and if the connection was reused.

        The upstream may have closed that connection before it received the request (RFC 9110 §9.2.2).
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
        self.request = RequestDirection(self.connection, self.capture, True)
        if self.capture is not None:
            note = {"retry": {"reason": verdict(reason).error}}
            self.capture.passed((int(Kind.NOTE), 0, json.dumps(note).encode()))
        self.request.pass_on(self._first)
        self._connect()

    def switch(self, head: ResponseHead, data: bytes) -> None:
        """
        The upstream has answered 101, followed by `data`.

        Raises `ResponseFault` if the request has not asked for this switch.
        """
        request, response, upstream = self.request, self.response, self._upstream
        assert response is not None and upstream is not None
        if not switches_to(head, asked_protocols(self.head)):
            raise ResponseFault("switching protocols without being asked")
        if not (request.done and request.idle):
            raise ResponseFault("switching protocols before the request was sent")
        records: Passed = ()
        if self.capture is not None:
            piece = ((int(Kind.TUNNEL_UPSTREAM), 0, data),) if data else ()
            records = ((int(Kind.RESPONSE_HEAD), 0, head.raw), *piece)
        self.publish({"exchange": self.id, "capture": self.capture, "records": records, "response": head.raw})
        request.stop()
        waiting = response.withdraw()
        self._upstream = None
        over = partial(self._owner.exchange_ended, self)
        self._tunnel = Tunnel(self.connection, upstream, self.capture, self.publish_end, over)
        self._tunnel.begin(waiting + onward_switch(head) + data, len(data))

    # --- the client ---------------------------------------------------------------------------

    def bodyReceived(self, piece: Piece) -> None:
        if self._ended:
            return
        self.request.bodyReceived(piece)
        if self._upstream is not None:
            self._upstream.sending()

    def read_buffer(self, most: int) -> memoryview | None:
        return None if self._ended else self.request.read_buffer(most)

    def fast_path(
        self, source: Watched, body: LengthReader, now: Callable[[], float], patience: float
    ) -> FastPath | None:
        if self._ended or self._upstream is None:
            return None
        return self.request.fast_path(self, source, body, now, patience)

    def clientLost(self, reason: Failure) -> None:
        if self._ended:
            # The response was complete, or cut, but not all of it has been handed over.
            self._owner.exchange_ended(self)
            self._let_go_of_upstream()
        elif not self._awaits_end():
            self.client_left(str(reason.value) if reason.check(ClientGivenUp) else "")

    def requestRefused(self, fault: RequestFault, kept: bytes) -> None:
        """The request's body is malformed or does not come."""
        if self._ended:
            return  # the response is complete, or cut, and only has to be handed over
        self._fail(refused_request(fault), refused_record(Kind.REQUEST_PIECE, kept))

    def client_left(self, error: str) -> None:
        """The client is gone before its response was complete."""
        self._end("client_closed", error)
        self._let_go_of_upstream()

    def _awaits_end(self) -> bool:
        """Wait a moment for the response's end if presumably nothing else is missing; whether that is so."""
        response, upstream, capture = self.response, self._upstream, self.capture
        if response is None or upstream is None or capture is None:
            return False
        if not (response.started and response.idle and self.request.done and upstream.end_may_come_alone):
            return False
        if self.connection.unsent:
            return False
        response.stop()
        self.response = AwaitingEnd(self, upstream, capture, response.size)
        upstream.hand_to(self.response)
        return True

    def interrupt(self, reason: Failure) -> None:
        """The proxy ends now."""
        if self._tunnel is not None:
            self._tunnel.interrupt(verdict(reason))
        elif not self._ended:
            self._fail(verdict(reason))

    # --- the end ----------------------------------------------------------------------------------

    def end(self) -> None:
        """Response and recording are complete: later events do not change the outcome."""
        self._ended = True

    def response_ended(self) -> None:
        """All of the response has been handed to the client's connection."""
        self._ended = True
        response, upstream = self.response, self._upstream
        assert response is not None and upstream is not None
        request = self.request
        keep_alive = response.keep_alive and request.done
        # Unsent bytes of the request will not be sent: the upstream would take the next request for them.
        request_sent = request.done and request.idle
        request.stop()
        response.stop()
        # The direction refers to its exchange: without this each exchange would be a reference cycle.
        self.response = self._upstream = None
        if request_sent:
            upstream.release()
        else:
            upstream.discard()
        self._owner.exchange_ended(self)
        self.connection.finish(keep_alive)

    def response_cut(self) -> None:
        """All received bytes of an incomplete response have been handed to the client's connection."""
        if self.response is not None:
            self.response.stop()
        reset_when_received(self.connection)

    def _fail(self, verdict: Verdict, refused: Records = ()) -> None:
        """There will be no complete response; `refused` are records of bytes that were not passed on."""
        response = self.response
        if response is not None and response.started:
            self._end(verdict.outcome, verdict.error, refused)
            self._let_go_of_request()
            response.cut()
            return
        self._ended = True
        answer = self._owner.answer_failure(self, verdict)
        records: Passed = ()
        if self.capture is not None:
            records = (*answer.records, *refused, end_record(verdict.outcome, verdict.error))
        self.publish(
            {
                "exchange": self.id,
                "capture": self.capture,
                "records": records,
                "response": answer.head,
                "outcome": verdict.outcome,
                "error": verdict.error,
                "sent": self.request.size,
                "received": len(answer.body),
                "ours": True,
            }
        )
        self._let_go_of_upstream()
        self._owner.exchange_ended(self)
        answer.send(self.connection, self.capture)

    def _end(self, outcome: str, error: str, refused: Records = ()) -> None:
        self._ended = True
        self.publish_end(refused, outcome, error)
        self._owner.exchange_ended(self)

    def publish_end(self, records: Passed, outcome: str, error: str) -> None:
        """Publish that the exchange is over; `records` and the END record are stored if it is recorded."""
        stored = () if self.capture is None else (*records, end_record(outcome, error))
        sent, received = self._sizes()
        self.publish(
            {
                "exchange": self.id,
                "capture": self.capture,
                "records": stored,
                "outcome": outcome,
                "error": error,
                "sent": sent,
                "received": received,
            }
        )

    def _sizes(self) -> tuple[int, int]:
        """Bytes of the request's body and of the response's; a tunnel's belong to them."""
        request, response, tunnel = self.request.size, self.response, self._tunnel
        if tunnel is not None:
            return request + tunnel.to_upstream.size, tunnel.to_client.size
        return request, 0 if response is None else response.size

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
            upstream.discard()
