"""
`GET /api/live`: the live feed over WebSocket.

Every message is a JSON object with a `type`.  The first is `hello`, with the sequence of the next event.
`?after=N` resumes after event N; a `gap` message says that later events are no longer kept.  `?exchange=ID`
selects the events of one exchange, `?pieces=false` omits pieces.

A slow viewer holds no more than its transport's buffer; when the ring no longer has its next event, it is
disconnected with `TOO_SLOW_CODE`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.websocket import WebSocketResource
from zope.interface import implementer

from logging_proxy.index.values import is_exchange_id
from logging_proxy.logserver.live.feed import Feed, LiveEvent
from logging_proxy.logserver.web.answers import Problem, ProblemResource, Refused, refuse
from logging_proxy.logserver.web.parameters import read_parameters
from logging_proxy.net.services import TypedService

TOO_SLOW_CODE = 4008
GOING_AWAY = 1001

VIEWERS = 64
"""Most viewers at a time; each may fill a transport's buffer."""

PING_INTERVAL = 20.0
"""Seconds between pings, below the idle timeout of common proxies (60); an unanswered one ends a viewer."""

CLOSE_TIMEOUT = 5.0
"""Seconds in which a viewer must read the close frame."""

BATCH = 64
"""Events sent before the reactor serves other connections."""

TALK_LIMIT = 65_536
"""Bytes that a viewer may send between two pings: all it needs to send are pongs."""

_SEQUENCE = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """The events that a viewer asked for."""

    after: int | None = None
    exchange: str | None = None
    pieces: bool = True

    def wants(self, event: LiveEvent) -> bool:
        return (self.exchange is None or event.id == self.exchange) and (self.pieces or event.type != "piece")


def read_filter(request: Request) -> FeedFilter:
    """The filter in the query.  Raises `Refused`."""
    given = read_parameters(request, ("after", "exchange", "pieces"))
    after, exchange, pieces = (given.get(name) for name in ("after", "exchange", "pieces"))
    if after is not None and not _SEQUENCE.fullmatch(after):
        raise Refused(Problem.BAD_PARAMETER, "after: not a sequence", parameter="after")
    if exchange is not None and not is_exchange_id(exchange):
        raise Refused(Problem.BAD_PARAMETER, "exchange: not an id", parameter="exchange")
    if pieces not in (None, "true", "false"):
        raise Refused(Problem.BAD_PARAMETER, "pieces: neither true nor false", parameter="pieces")
    return FeedFilter(None if after is None else int(after), exchange, pieces != "false")


@implementer(IPushProducer)
class Viewer:
    """One viewer's connection (a `WebSocketProtocol`)."""

    def __init__(self, viewers: Viewers, wanted: FeedFilter, channel: Any) -> None:
        self._viewers = viewers
        self._filter = wanted
        self._channel = channel
        self._transport: Any = None
        self._next = 0
        self._paused = False
        self._open = False
        self._answered = True
        self._heard = 0
        self._timer: IDelayedCall | None = None
        self._next_batch: IDelayedCall | None = None

    # --- WebSocketProtocol

    def negotiationStarted(self, transport: Any) -> None:
        self._transport = transport

    def negotiationFinished(self) -> None:
        # The channel applies flow control to requests; from here on it is the viewer's.
        self._channel.transport.unregisterProducer()
        self._transport.attachProducer(self)
        self._channel.dataReceived = self._listen(self._channel.dataReceived)
        self._open = True
        oldest, next = self._viewers.feed.enter()
        self._viewers.connected.add(self)
        self._greet(oldest, next)
        self._timer = self._viewers.clock.callLater(PING_INTERVAL, self._ping)
        self.more()

    def textMessageReceived(self, message: str) -> None:
        """Ignored: viewers only listen."""

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Ignored: viewers only listen."""

    def pongReceived(self, payload: bytes) -> None:
        self._answered = True

    def connectionLost(self, reason: Failure) -> None:
        if self._open:
            self._leave()
        self._cancel()

    # --- IPushProducer

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.more()

    def stopProducing(self) -> None:
        self._paused = True

    # --- sending

    def more(self) -> None:
        """Sends the events there are, until the transport pauses."""
        if self._next_batch is None and self._open and not self._paused:
            self._send_batch()

    def _send_batch(self) -> None:
        self._next_batch = None
        events = self._viewers.feed.read(self._next, BATCH)
        if events is None:
            self.close(TOO_SLOW_CODE)
            return
        for event in events:
            self._next = event.sequence + 1
            if self._filter.wants(event):
                self._transport.sendTextMessage(event.text())
                if self._paused or not self._open:
                    return
        if len(events) == BATCH:
            self._next_batch = self._viewers.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next_batch = None
        self.more()

    def look(self) -> None:
        """Sends new events; disconnects a paused viewer whose next event the ring has dropped."""
        if self._open and self._paused and self._viewers.feed.read(self._next, 0) is None:
            self.close(TOO_SLOW_CODE)
        self.more()

    def _greet(self, oldest: int, next: int) -> None:
        after = self._filter.after
        self._say(type="hello", sequence=next, oldest=oldest)
        if after is None:
            self._next = next
        elif oldest <= after + 1 <= next:
            self._next = after + 1
        else:
            self._next = oldest if after < oldest else next
            self._say(type="gap", after=after, sequence=self._next)

    def _say(self, **message: Any) -> None:
        self._transport.sendTextMessage(json.dumps(message))

    # --- the end

    def _listen(self, take: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """`take`, guarded: a viewer that sends too much, or invalid frames, is disconnected."""

        def listen(data: bytes) -> None:
            self._heard += len(data)
            if self._heard > TALK_LIMIT:
                self._abort()
                return
            try:
                take(data)
            except Exception:
                # Invalid frames: the WebSocket protocol below raises instead of closing.
                self._abort()

        return listen

    def _ping(self) -> None:
        if not self._answered:
            self._abort()
            return
        self._answered, self._heard = False, 0
        self._transport.ping()
        self._timer = self._viewers.clock.callLater(PING_INTERVAL, self._ping)

    def close(self, code: int) -> None:
        """Sends a close frame, and aborts the connection after `CLOSE_TIMEOUT`."""
        if not self._open:
            return
        self._leave()
        self._cancel()
        self._timer = self._viewers.clock.callLater(CLOSE_TIMEOUT, self._abort)
        self._transport.detachProducer()
        self._transport.loseConnection(code)

    def _abort(self) -> None:
        self._timer = None
        self._channel.transport.abortConnection()

    def _leave(self) -> None:
        self._open = False
        self._viewers.connected.discard(self)
        self._viewers.feed.leave()

    def _cancel(self) -> None:
        for call in (self._timer, self._next_batch):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._next_batch = None


class Viewers(TypedService):
    """The viewers of a feed; they are disconnected when the service stops."""

    def __init__(self, feed: Feed, clock: IReactorTime, call_from_thread: Callable[[Any], Any]) -> None:
        self.feed = feed
        self.clock = clock
        self.connected: set[Viewer] = set()
        feed.wake = lambda: call_from_thread(self._wake)

    def _wake(self) -> None:
        for viewer in list(self.connected):
            viewer.look()

    def stopService(self) -> None:
        super().stopService()
        for viewer in list(self.connected):
            viewer.close(GOING_AWAY)


class Live(ProblemResource):
    """`GET /api/live`."""

    _log = Logger()

    def __init__(self, viewers: Viewers) -> None:
        super().__init__()
        self._viewers = viewers

    def allowed(self) -> list[str]:
        return ["GET"]

    def render_GET(self, request: Request) -> Any:
        if (request.getHeader("Upgrade") or "").lower() != "websocket":
            return refuse(request, Problem.NEEDS_UPGRADE)
        try:
            wanted = read_filter(request)
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        if len(self._viewers.connected) >= VIEWERS:
            return refuse(request, Problem.BUSY)
        found = WebSocketResource(_One(self._viewers, wanted)).render_GET(request)
        return refuse(request, Problem.BAD_UPGRADE) if isinstance(found, bytes) else found


@dataclass(frozen=True, slots=True)
class _One:
    """A `WebSocketServerFactory` for one viewer."""

    viewers: Viewers
    wanted: FeedFilter

    def buildProtocol(self, request: Request) -> Viewer:
        return Viewer(self.viewers, self.wanted, request.channel)
