"""
One connection to an upstream: it reads responses.

It carries one exchange at a time and goes back to its pool after a response that
leaves the connection in a known state.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.http.bodies import (
    BARE_END,
    NO_BODY,
    NOTHING_YET,
    BodyReader,
    ChunkedReader,
    CloseReader,
    LengthReader,
    faulty_line,
    lacking,
    response_body,
)
from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.diagnosis import is_faulty_response_so_far, response_fault
from logging_proxy.http.faults import (
    HandshakeTimeout,
    NotConnected,
    ResponseFault,
    UpstreamTimeout,
    handshake_failure,
)
from logging_proxy.http.heads import ResponseHead
from logging_proxy.http.protocols import ConnectionPool, ResponseReceiver, TunnelEnd
from logging_proxy.http.reuse import Reuse, contradicts, reuse_after
from logging_proxy.http.upstream_link import UpstreamLink
from logging_proxy.net.wire import closed_by_peer, enable_half_close


@implementer(IHandshakeListener, IPushProducer)
class ProxyClient(UpstreamLink):
    """One upstream connection; also the producer of its response's body."""

    _log = Logger()

    def __init__(
        self,
        pool: ConnectionPool[ProxyClient],
        ready: Deferred[ProxyClient],
        handshake_until: float | None,
    ) -> None:
        super().__init__(pool.now)
        self.uses = 0
        self.heard = False
        """Whether any byte of the present response has been received."""
        self.born = self.idle_since = self._began = pool.now()
        self.reuse: Reuse | None = None
        """How the connection may be used after the present response, whose last byte came at `idle_since`."""
        self._pool = pool
        self._ready: Deferred[ProxyClient] | None = ready
        self._handshake_until = handshake_until
        self._receive = self._receive_unasked
        self._receiver: ResponseReceiver | None = None
        self._method = b""
        self._buffer = b""
        self._body: BodyReader = NO_BODY
        self._reusable = True
        self._interim = 0
        """Bytes of the present response's interim heads."""
        self._unasked: Callable[[bytes], None] | None = None
        """Called with bytes that follow the response."""

    # --- the connection ----------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._pool.opened(self)
        if self._handshake_until is None:
            self._become_ready()
        else:
            self.deadline = self._handshake_until

    def handshakeCompleted(self) -> None:
        """The upstream is authenticated only now; no byte of a request has been written before."""
        self.deadline = NEVER
        self._become_ready()

    def _become_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pool.closed(self)
        super().connectionLost(reason)

    def _peer_lost(self, reason: Failure) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(self._close_reason or handshake_failure(reason))
        self._finish_gathering()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        in_order = reason.check(ConnectionDone) or closed_by_peer(self.transport)
        if in_order and self._receive == self._receive_body and self._body.finish():
            receiver.bodyReceived(BARE_END)
        else:
            receiver.upstreamLost(self._close_reason or reason, self._held())

    # --- a request -------------------------------------------------------------------

    def begin(
        self, receiver: ResponseReceiver, method: bytes, unasked: Callable[[bytes], None] | None = None
    ) -> None:
        """
        The next response is for `receiver`; the caller now sends a `method` request.

        `unasked` is called with bytes that follow the response before the next request.
        """
        self.uses += 1
        self.heard = False
        self._interim = 0
        self._receiver = receiver
        self._method = method
        self._unasked = unasked
        self._receive = self._receive_head
        self._expect(self._pool.limits.head_timeout)
        self._began = self.deadline - self._wait

    @property
    def seconds(self) -> float:
        """How long ago the present request began."""
        return self._now() - self._began

    @property
    def lacking(self) -> str:
        """What the present response's body is known to lack, for an error's text."""
        return lacking(self._body)

    def sending(self) -> None:
        """More bytes of the request or of the tunnel were sent: restart the time for a response."""
        if self._receive == self._receive_head or self._tunnel is not None:
            self.deadline = self._now() + self._wait

    def release(self) -> None:
        """The exchange is over on this side: back to the pool, if the connection can be used again."""
        self._receiver = None
        if self._gathering is not None:
            return  # gathering ends with the connection
        self._receive = self._receive_unasked
        if self._reusable and self.reuse is not None and not self._lost:
            self._pool.put_back(self, self.reuse)
        elif not self._lost:
            self._gather_refused(b"", self._refuse_unasked)  # a body behind a 204 may still be on its way

    def _is_idle(self) -> bool:
        return self._reusable

    def discard(self) -> None:
        """Reset the connection; the response is not wanted any more, and the receiver is not informed."""
        self._receiver = self._tunnel = None
        self._ready = None
        self.abort()

    def stopProducing(self) -> None:
        self.discard()

    @property
    def end_may_come_alone(self) -> bool:
        """Whether the body's end is signalled separately: by a last chunk, or by closing."""
        return isinstance(self._body, ChunkedReader | CloseReader)

    def hand_to(self, receiver: ResponseReceiver) -> None:
        """The rest of the response is for `receiver`."""
        self._receiver = receiver

    # --- after a switch of protocols ------------------------------------------------------

    def switch(self, tunnel: TunnelEnd) -> None:
        """
        All input from now on is for `tunnel`.  It ends with `close` or `discard`.

        Time runs while neither side sends anything.
        """
        self._receiver = None
        self._reusable = False
        self._begin_tunnel(tunnel, b"")
        self._expect(self._pool.limits.stream_timeout)
        enable_half_close(self.transport, self)

    # --- the response ------------------------------------------------------------------

    def _gather_refused(self, data: bytes, done: Callable[[bytes], None]) -> None:
        """`data` is refused: `done` is called with it and the input that follows, at most a head's size."""
        self._reusable = False
        self._pool.forget(self)
        self._gather(data, self._pool.clock, self._pool.limits.head_limit, done)

    def _refuse_head(self, data: bytes, fault: Exception | None = None) -> None:
        """The head at the beginning of `data` is refused, because of `fault` or of a fault in its lines."""
        limits = self._pool.limits

        def refuse(kept: bytes) -> None:
            self._refuse(fault or response_fault(kept, limits.header_fields, limits.head_limit), kept)

        self._gather_refused(data, refuse)

    def _refuse_body(self, data: bytes) -> None:
        """The body's framing is at fault where `data` begins."""
        body = self._body

        def refuse(kept: bytes) -> None:
            self._refuse(ResponseFault(body.fault, faulty_line(body, kept)), kept)

        self._gather_refused(data, refuse)

    def _refuse(self, fault: Exception, kept: bytes) -> None:
        self._gathering = None
        receiver, self._receiver = self._receiver, None
        self.abort()
        if receiver is not None:
            receiver.upstreamLost(Failure(fault), kept)

    def _receive_unasked(self, data: bytes) -> None:
        """Bytes that belong to no request: they must never become the next response (RFC 9112 §9.2)."""
        if not self._lost:
            self._gather_refused(data, self._refuse_unasked)

    def _refuse_unasked(self, kept: bytes) -> None:
        self._gathering = None
        if not kept:
            self.close()
            return
        unasked, self._unasked = self._unasked, None
        if unasked is not None and not kept.startswith((b"HTTP/1.1 408", b"HTTP/1.0 408")):
            self._log.warn("{pool}: {size} unsolicited bytes; closing", pool=self._pool, size=len(kept))
            unasked(kept)
        self.abort()

    def _receive_head(self, data: bytes) -> None:
        known = 0
        if self._buffer:
            known = len(self._buffer)
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._pool.limits.head_limit:
                self._await_head(data, known)
                return
            try:
                head = self._pool.heads.get(data[:end]) or self._pool.heads.parse(data[:end])
            except ResponseFault:
                self._refuse_head(data)
                return
            except NotConnected as failure:
                self._refuse_head(data, failure)
                return
            rest = data[end:] if end < len(data) else b""
            if head.status >= 200:
                self._final(head, rest)
                return
            try:
                if not self._goes_on(head, rest):
                    return
            except ResponseFault as fault:
                self._refuse_head(data, fault)
                return
            data, known = rest, 0

    def _goes_on(self, head: ResponseHead, rest: bytes) -> bool:
        """Whether a head comes after this one, which is a 1xx with `rest` behind it."""
        self.heard = True
        if head.status == 101:
            if self._receiver is not None:
                self._receiver.switchReceived(head, rest)
            return False
        self._informational(head)
        return self._receiver is not None

    def _await_head(self, data: bytes, known: int) -> None:
        self.heard = self.heard or bool(data)
        if len(data) >= self._pool.limits.head_limit or is_faulty_response_so_far(data, known):
            self._refuse_head(data)
            return
        self._buffer = data

    def _informational(self, head: ResponseHead) -> None:
        self._interim += len(head.raw)
        if self._interim > self._pool.limits.head_limit:
            raise ResponseFault("interim responses without end")
        if contradicts(head):
            self._reusable = False
        if self._receiver is not None:
            self._receiver.informationalReceived(head)

    def _final(self, head: ResponseHead, data: bytes) -> None:
        body = self._body = response_body(head, self._method)
        self.reuse = reuse_after(head, self._method, body)
        if self.reuse is None:
            self._reusable = False
        piece = BARE_END
        if body is not NO_BODY:
            piece = NOTHING_YET
            if data:
                piece, data = body.feed(data)
            if not body.done:
                self._receive = self._receive_body
                self._expect(self._pool.limits.stream_timeout)
        receiver = self._receiver
        if body.done:
            self._ended(data)
        if receiver is not None:
            receiver.headReceived(head, piece)
        # Not if that was all of the body: the receiver may be the next response's by now.
        if receiver is None or receiver is not self._receiver:
            return
        if body.fault:
            self._refuse_body(data)
        elif isinstance(body, ChunkedReader):
            self._use_fast_path(receiver, body)

    def _receive_body(self, data: bytes) -> None:
        body = self._body
        piece, rest = body.feed(data)
        receiver = self._receiver
        if body.done:
            self._ended(rest)
        else:
            self.deadline = self._now() + self._wait
        if receiver is not None and (piece.framed or piece.last):
            receiver.bodyReceived(piece)
        if body.fault and receiver is self._receiver:
            self._refuse_body(rest)

    def _read_buffer(self) -> memoryview | None:
        """The buffer to read the next piece of a long body into; its last byte is read the ordinary way."""
        receiver = self._receiver
        if receiver is None or self._receive != self._receive_body:
            return None
        place = receiver.read_buffer(self._body.ahead - 1)
        if place is not None and isinstance(self._body, LengthReader):
            self._use_fast_path(receiver, self._body)
        return place

    def _use_fast_path(self, receiver: ResponseReceiver, body: ChunkedReader | LengthReader) -> None:
        """Use a fast path for the body from the next read on, if there is one."""
        if self._reader is not None and self._reader.fast_path is None:
            self._reader.fast_path = receiver.fast_path(self, body, self._now, self._wait)

    def _ended(self, rest: bytes) -> None:
        self._receiver = None
        self._receive = self._receive_unasked
        self.deadline = NEVER
        self.idle_since = self._now()
        if self._reader is not None:
            self._reader.fast_path = None
        if rest:
            self._receive_unasked(rest)

    def _held(self) -> bytes:
        """Bytes of the response that were received and not passed on, since they are incomplete."""
        return self._body.held if self._receive == self._receive_body else self._buffer

    # --- time ---------------------------------------------------------------------------------

    def timedOut(self) -> None:
        if self._ready is not None:
            seconds = self._pool.limits.connect_timeout
            self.abort(Failure(HandshakeTimeout(f"TLS handshake not complete within {seconds:g} s")))
        elif self._closing:
            self.abort()
        elif self._tunnel is not None:
            self.give_up(
                Failure(UpstreamTimeout(f"nothing passed through the tunnel within {self._wait:g} s"))
            )
        elif self._receiver is not None:
            part = "response head" if self._receive == self._receive_head else "more of the response"
            text = f"no {part} within {self._wait:g} s"
            receiver, self._receiver = self._receiver, None
            kept = self._held()
            self.abort()
            receiver.upstreamLost(Failure(UpstreamTimeout(text)), kept)
        else:
            self._pool.forget(self)
            self.close()
