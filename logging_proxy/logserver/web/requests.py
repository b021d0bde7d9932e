"""
Requests to the logging server; access is decided by the head, before any of the body is read.

A refused request is answered at once, and the rest of its body is discarded for a short time.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request

from logging_proxy.logserver.web.answers import Problem
from logging_proxy.logserver.web.bodies import DroppedBody

LINGER = 5.0
"""
Seconds for which the rest of a refused body is read and discarded.

Closing a connection while bytes arrive resets it, and the client may lose the response (RFC 9112 §9.6).
"""


class ServerRequest(Request):
    """A request of a `ServerSite`."""

    _lingering: IDelayedCall | None = None

    def __repr__(self) -> str:
        """Without the query, which may hold secrets: Twisted logs this text."""
        return f"<{self.method!r} {self.path!r}>"

    def gotLength(self, length: int | None) -> None:
        """Called by the channel after the head, before the body."""
        channel: Any = self.channel
        # Twisted sets these only after the body.
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path, _, query = self.uri.partition(b"?")
        self.args = parse_qs(query, True)
        problem = channel.site.problem(self)
        self.content = DroppedBody()
        if problem is None:
            self.content = channel.site.body_for(self, length)
        elif length != 0:
            self._refuse(problem)

    def _refuse(self, problem: Problem) -> None:
        channel: Any = self.channel
        # Without this, Twisted would ask the client to send the body.
        self.requestHeaders.removeHeader("Expect")
        self.responseHeaders.setRawHeaders("Date", [datetimeToString()])
        self.responseHeaders.setRawHeaders("Connection", [b"close"])
        self._write(channel.site.refusal(self, problem))
        channel.transport.loseWriteConnection()
        self._lingering = channel.callLater(LINGER, channel.transport.abortConnection)

    def process(self) -> None:
        """Called when the body is complete."""
        if self._lingering is None:
            super().process()  # type: ignore[no-untyped-call]
            return
        channel: Any = self.channel
        channel.transport.loseConnection()

    def render(self, resource: IResource) -> None:
        """Renders the response.  Twisted's own version shows the query in its log and on error pages."""
        body = resource.render(self)
        if body is not NOT_DONE_YET:
            self._write(body)
            self.finish()  # type: ignore[no-untyped-call]

    def _write(self, data: bytes) -> None:
        self.write(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None and lingering.active():
            lingering.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
