"""
The connections to the logging server and their deadlines.

twisted.web has a single idle timer, which every byte restarts.  Here a request head has an absolute deadline,
a body a minimum speed, and the client must keep reading the response.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.stalls import Stall

IDLE_TIMEOUT = 60.0
"""Seconds that a connection is kept open without a request."""

HEAD_TIMEOUT = 10.0
"""Deadline of a request head, in seconds from its first byte."""

BODY_PATIENCE = 60.0
"""Seconds that a body may lag behind its minimum speed."""

LEAST_SPEED = 500
"""Minimum speed of a body in bytes per second; the same as Apache's (`mod_reqtimeout`)."""

SEND_TIMEOUT = 60.0
"""Seconds for which a client may stop reading while response bytes wait."""


class Phase(Enum):
    """The phase of a connection."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    """A response is being made or sent; also a WebSocket, and a closing connection."""


class Channel(HTTPChannel):
    """One connection; `site` is a `ServerSite`."""

    site: Any

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deadline = NEVER
        self._phase = Phase.IDLE
        self._since = 0.0
        """Start of the wait for the current request."""
        self._stall: Stall | None = None

    # --- beginning and end

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._stall = Stall(self, self.site.deadlines, SEND_TIMEOUT)
        self._await_request()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _closed(self) -> None:
        self._enter(Phase.ANSWER, NEVER)
        if self._stall is not None:
            self._stall.end()
            self._stall = None
        self.site.closed(self)

    def _protocolUpgradeForWebsockets(self, protocol: IProtocol) -> None:
        """Twisted replaces our methods with those of `protocol`; the site must learn of the disconnect."""
        super()._protocolUpgradeForWebsockets(protocol)

        def lost(reason: Failure = connectionDone) -> None:
            self._closed()
            protocol.connectionLost(reason)

        self.connectionLost = lost  # type: ignore[method-assign]

    def loseConnection(self) -> None:
        """Closes after the output buffer is sent; the send timeout applies."""
        self._enter(Phase.ANSWER, NEVER)
        if self._stall is not None:
            self._stall.begin()
        super().loseConnection()  # type: ignore[no-untyped-call]

    # --- a request

    def _enter(self, phase: Phase, deadline: float) -> None:
        self._phase, self.deadline = phase, deadline

    def _await_request(self) -> None:
        self._since = self.site.deadlines.now()
        self._enter(Phase.IDLE, self._since + IDLE_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD, self.site.deadlines.now() + HEAD_TIMEOUT)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        self._enter(Phase.BODY, self.site.deadlines.now() + BODY_PATIENCE)
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        if self._phase is Phase.BODY and self.deadline != NEVER:
            latest = self.site.deadlines.now() + BODY_PATIENCE
            self.deadline = min(self.deadline + len(data) / LEAST_SPEED, latest)
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        self._enter(Phase.ANSWER, NEVER)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:
        self._await_request()
        if self._dataBuffer:  # of the next request, which is taken up at once
            self._enter(Phase.HEAD, self._since + HEAD_TIMEOUT)
        super().requestDone(request)  # type: ignore[no-untyped-call]

    # --- flow control: called by the transport for a slow client, and by an upload for a slow disk

    def pauseProducing(self) -> None:
        if self._phase is Phase.BODY:
            self.deadline = NEVER
        elif self._stall is not None:
            self._stall.begin()
            if self._phase is Phase.IDLE:
                self.deadline = NEVER
        super().pauseProducing()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        if self._phase is Phase.BODY:
            self.deadline = self.site.deadlines.now() + BODY_PATIENCE
        elif self._stall is not None:
            self._stall.end()
            if self._phase is Phase.IDLE:
                self._await_request()
        super().resumeProducing()  # type: ignore[no-untyped-call]

    # --- giving up

    @property
    def waits_since(self) -> float | None:
        """When the wait for a whole request head began; None while a request is processed."""
        return self._since if self._phase in (Phase.IDLE, Phase.HEAD) else None

    def timedOut(self) -> None:
        """Called at the deadline of the idle, head or body phase."""
        self.loseConnection()

    def leave(self) -> None:
        """Closes to make room for another connection."""
        self.loseConnection()

    def abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def give_up(self, reason: Failure) -> None:
        """Called when the client has stopped reading for `SEND_TIMEOUT`."""
        self.abort()
