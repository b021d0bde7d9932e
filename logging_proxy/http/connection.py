"""
One client's connection: it reads requests, and passes each to the site's resource when its head is complete.

The resource answers with `send` and `finish`.  Requests that arrive meanwhile wait in a bounded buffer, so
that answers keep the order of the requests.

The state of the connection is the method that receives its bytes:

    _receive_head ──▶ _awaiting_head      between requests; in the middle of a head
    _receive_body ──▶ _receive_ahead      a request is being answered, its body is coming; is there
    _receive_refused                      the input is faulty: the rest of it is gathered, then dropped
    _receive_tunnel                       protocols have been switched: the bytes go to the tunnel
    _lingering    ──▶ _closing            the last answer is on its way; nothing is read any more

`_receive_tunnel` is in `link`; the last line, the closing of a connection, in `client_link`.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.http.bodies import (
    BARE_END,
    NO_BODY,
    BodyReader,
    LengthReader,
    Piece,
    faulty_line,
    request_body,
)
from logging_proxy.http.client_link import ClientLink
from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.diagnosis import is_faulty_so_far, request_fault
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead, tells_to_go_on
from logging_proxy.http.limits import MOST_PIPELINED, MOST_UNSENT, NEWCOMER, UNSENT_LOOK
from logging_proxy.http.protocols import ConnectionSite, Responder, TunnelEnd
from logging_proxy.net.wire import Send, discard_data, looks_closed


@implementer(IPushProducer)
class ServerConnection(ClientLink):
    """One client's connection; also the producer of the requests' bodies."""

    _log = Logger()

    def __init__(self, site: ConnectionSite[ServerConnection]) -> None:
        super().__init__(site)
        self.prepared: dict[object, bytes] = {}
        """Results that responders derive from the peer's address, kept for the next request."""
        self._receive = self._receive_head
        self._send: Send = discard_data
        """Sends to the client; `send` may stand in for it."""
        self._buffer = b""
        self._body: BodyReader = NO_BODY
        self._responder: Responder | None = None
        self._keep_alive = True
        self._asked = False
        """At least one request has been received."""
        self._busy = False
        """A request is under way: from its head's end until `finish`."""
        self._refused = False
        """The client has sent a faulty request; it gets an error response, or a reset."""
        self._awaits_continue = False
        """The client may be waiting for a 100 before it sends its body."""
        self._later: IDelayedCall | None = None

    # --- the connection's beginning and end -----------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._send = self.send
        self.deadline = self._now() + self._limits.keep_alive_timeout
        self.site.opened(self)

    def _peer_ended(self) -> None:
        """A half-close: the client has left, unless the configuration lets it wait for its answer."""
        self._finish_gathering()
        if self._refused and self._busy:
            return  # the error response is sent first, and then the connection is closed
        was_busy = self._busy
        owed = (was_busy and self._body.done) or self._later is not None
        if owed and not self._limits.half_close_cancels:
            return
        self._lose(connectionDone)
        if was_busy:
            self._reset()
        else:
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._send = discard_data
        self.site.closed(self)

    def _peer_lost(self, reason: Failure) -> None:
        super()._peer_lost(reason)
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
        self._finish_gathering()
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.clientLost(reason)

    # --- reading heads --------------------------------------------------------

    def _receive_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            # RFC 9112 §2.2: one empty line before a request is ignored.
            start = 2 if data.startswith(b"\r\n") else 0
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4 or end - start > self._limits.head_limit:
                self._await_head(data, start)
                return
            raw = data[start:end]
            try:
                head = self.site.heads.get(raw) or self.site.heads.parse(raw)
            except RequestFault:
                self._refuse_head(data[start:])
                return
            self._dispatch(head, data[end:] if end < len(data) else b"")
            if self._busy or self._paused or self._receive != self._receive_head:
                return
            data, self._buffer = self._buffer, b""

    def _await_head(self, data: bytes, start: int) -> None:
        """The head is not complete: keep its bytes, unless they cannot become a valid one."""
        if data == b"\r" or data == b"\r\n":
            self._buffer = data  # an empty line begins no request: the connection remains idle
            return
        begun = data[start:]
        if len(begun) >= self._limits.head_limit or is_faulty_so_far(begun, len(self._buffer)):
            self._refuse_head(begun)
            return
        self._buffer = data
        if self._receive != self._awaiting_head:
            self._receive = self._awaiting_head
            self.deadline = self._now() + self._limits.head_timeout

    def _awaiting_head(self, data: bytes) -> None:
        """In the middle of a head: the deadline is absolute and stays."""
        known = len(self._buffer)
        data = self._buffer + data
        start = 2 if data.startswith(b"\r\n") else 0
        if data.find(b"\r\n\r\n", max(start, known - 3)) < 0:
            self._await_head(data, start)
        else:
            self._buffer = b""
            self._receive = self._receive_head
            self._receive_head(data)

    # --- one request ------------------------------------------------------------

    def _dispatch(self, head: RequestHead, data: bytes) -> None:
        body = request_body(head)
        piece = BARE_END
        if body is not NO_BODY:
            piece, data = body.feed(data)
        self._body = body
        self._buffer = b"" if body.fault else data
        self._asked = self._busy = True
        self._keep_alive = head.keep_alive
        if body.done:
            self._receive = self._receive_ahead
            self.deadline = NEVER
        else:
            self._receive = self._receive_body
            self._awaits_continue = head.expect_continue and not (piece.framed or data)
            self._await_body()
            if self._awaits_continue:
                self.send = self._send_first
        self._respond(head, piece)
        if body.fault and self._receive == self._receive_body:
            self._refuse_body(data)

    def _respond(self, head: RequestHead, piece: Piece) -> None:
        try:
            responder = self.site.respond(self, head, piece)
        except RequestFault as fault:
            self.refuse(fault, head.raw)
            return
        except Exception:
            # A part of the answer may have been sent, so that an error response could be taken for its rest.
            path, _, _ = head.target.partition(b"?")  # a query may hold secrets
            self._log.failure("while answering {method} {path}", method=head.method, path=path)
            self.abort()
            return
        if not self._busy or responder is None:
            return
        if self._lost:
            responder.clientLost(connectionDone)
        else:
            self._responder = responder

    def _receive_body(self, data: bytes) -> None:
        body, responder = self._body, self._responder
        piece, rest = body.feed(data)
        self._awaits_continue = False
        if body.done:
            self.deadline = NEVER
            self._receive = self._receive_ahead
            self._buffer = rest
            if self._reader is not None:
                self._reader.fast_path = None
        elif not self._paused:
            self._await_body()
        if responder is not None and (piece.framed or piece.last):
            responder.bodyReceived(piece)
        if body.fault and self._receive == self._receive_body:
            self._refuse_body(rest)

    def _read_buffer(self) -> memoryview | None:
        """The buffer to read the next piece of a long body into; its last byte is read the ordinary way."""
        responder = self._responder
        if responder is None or self._receive != self._receive_body:
            return None
        place = responder.read_buffer(self._body.ahead - 1)
        reader, body = self._reader, self._body
        if place is not None and reader and reader.fast_path is None and isinstance(body, LengthReader):
            reader.fast_path = responder.fast_path(self, body, self._now, self._limits.body_timeout)
        return place

    def _await_body(self) -> None:
        """Start the time for more of the body, unless the client waits for a 100 (RFC 9110 §10.1.1)."""
        self.deadline = NEVER if self._awaits_continue else self._now() + self._limits.body_timeout

    def _send_first(self, data: bytes) -> bool:
        """Takes the place of `send` until a client that waits for a 100 has got it, or a final answer."""
        if tells_to_go_on(data):
            self.send = self._send
            self._awaits_continue = False
            if self._receive == self._receive_body and not self._paused:
                self._await_body()
        return self._send(data)

    def _receive_ahead(self, data: bytes) -> None:
        """Bytes of the next requests, while this one is being answered."""
        self._buffer += data
        if len(self._buffer) > MOST_PIPELINED:
            self._pause_transport()

    # --- flow control: the request's body ----------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading the request's body; its deadline does not run meanwhile."""
        if self._receive == self._receive_body:
            self.deadline = NEVER
        if self._busy:
            self._pause_transport()

    def resumeProducing(self) -> None:
        if self._receive == self._receive_body:
            self._await_body()
        if self._busy and len(self._buffer) <= MOST_PIPELINED:
            self._resume_transport()

    def stopProducing(self) -> None:
        self.abort()

    # --- answering ------------------------------------------------------------------

    @property
    def may_keep_alive(self) -> bool:
        """Whether client, request and site allow that the connection stays open after the answer."""
        is_last = self._read_ended and not self._buffer
        return self._keep_alive and self._body.done and not self.site.closing and not is_last

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete, and has told the client whether the connection stays."""
        self._busy = False
        self._responder = self._tunnel = None
        self._stop_gathering()
        if self._lost:
            return
        is_last = self._read_ended and not self._buffer
        if not (keep_alive and self._body.done) or self.site.closing or is_last:
            self._finish_and_close()
            return
        self._receive = self._receive_head
        self.deadline = self._now() + self._limits.keep_alive_timeout
        if self._buffer or self._paused or self._queue_length() > MOST_UNSENT:
            self._go_on()

    def _go_on(self) -> None:
        """
        Process the next request, or continue to read, once the client has read enough of its answers.

        Not in this call, which may be within the previous request's `respond`.
        """
        delay = 0.0
        if self._queue_length() > MOST_UNSENT:
            delay = UNSENT_LOOK
            self._pause_transport()
        elif self._paused:
            self._resume_transport()
        if self._later is None:
            self._later = self.site.clock.callLater(delay, self._next_request)

    def _next_request(self) -> None:
        self._later = None
        if self._receive != self._receive_head:
            return
        if self._queue_length() > MOST_UNSENT:
            self._go_on()
            return
        if self._paused:
            self._resume_transport()
        self._receive_head(b"")

    def _finish_and_close(self) -> None:
        if self._read_ended or (self._body.done and not self._buffer and not self._refused):
            self._close()
        else:
            self._linger()

    def switch(self, tunnel: TunnelEnd) -> None:
        """
        The response is a change of protocols: all input, received already or not, is for `tunnel`.

        The tunnel ends with `finish` or `abort`, as any response does.
        """
        self._responder = None
        data, self._buffer = self._buffer, b""
        self._begin_tunnel(tunnel, data)

    # --- faulty requests -----------------------------------------------------------

    def refuse_input(self, fault: RequestFault, data: bytes) -> None:
        """Refuse everything that the client sends, which begins with `data`."""
        limit = self._limits.head_limit
        self._gather(data, self.site.clock, limit, lambda kept: self.refuse(fault, kept))

    def _refuse_head(self, data: bytes) -> None:
        limits = self._limits

        def refuse(kept: bytes) -> None:
            self.refuse(request_fault(kept, limits.header_fields, limits.head_limit), kept)

        self._gather(data, self.site.clock, limits.head_limit, refuse)

    def _refuse_body(self, data: bytes) -> None:
        """The body's framing is at fault where `data` begins."""
        body = self._body

        def refuse(kept: bytes) -> None:
            self._give_body_up(RequestFault(400, body.fault, faulty_line(body, kept)), kept)

        self._gather(data, self.site.clock, self._limits.head_limit, refuse)

    def _give_up_reading(self) -> None:
        self._gathering = None
        self._refused = True
        self._keep_alive = False
        self._buffer = b""
        self.deadline = NEVER
        self._receive = self._receive_refused

    def _give_body_up(self, fault: RequestFault, kept: bytes) -> None:
        """The body is malformed, or late: the responder answers that."""
        self._give_up_reading()
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.requestRefused(fault, kept)

    def refuse(self, fault: RequestFault, kept: bytes) -> None:
        """Answer `fault` and close; no responder has been given the request."""
        self._give_up_reading()
        self._busy = True
        self._responder = None
        self.site.refuse(self, fault, kept)

    def abort(self) -> None:
        """Reset the connection, so that the client sees that the answer is incomplete."""
        self._busy = False
        self._responder = self._tunnel = None
        self._stop_gathering()
        if not self._lost:
            self._lose(connectionDone)
            self._reset()

    # --- room for others --------------------------------------------------------------

    @property
    def waits_since(self) -> float | None:
        """The time since which no request is under way; None while one is."""
        if self._later is not None or self._queue_length():
            return None
        if self._receive == self._receive_head:
            return self.deadline - self._limits.keep_alive_timeout
        if self._receive == self._awaiting_head:
            return self.deadline - self._limits.head_timeout
        return None

    def leave(self) -> None:
        """Make room for others: close, in good order."""
        self._close()

    # --- time and the end of the service ---------------------------------------------

    def timedOut(self) -> None:
        """A head, a body or the next request did not come in time, or closing takes too long."""
        if self._receive == self._awaiting_head:
            self.refuse(RequestFault(408, "request head not complete in time"), self._buffer)
        elif self._receive == self._receive_body:
            self._give_body_up(RequestFault(408, "request body idle for too long"), self._body.held)
        else:
            super().timedOut()

    def close_when_idle(self) -> None:
        """
        The site is closing: an idle connection ends now, one with a request after the answer.

        A connection without a request yet probably has one on its way; closing it now would fail that
        client's first request.  A head that has begun has as much time for its rest.
        """
        begun = self._buffer.lstrip(b"\r\n")  # an empty line does not begin a request
        if self._receive == self._receive_head and not (begun or looks_closed(self.transport)):
            if self._asked:
                self._close()
            else:
                self.deadline = min(self.deadline, self._now() + NEWCOMER)
        elif self._receive == self._awaiting_head:
            self.deadline = min(self.deadline, self._now() + NEWCOMER)
