"""
A request to the logging server, which is judged by its head, before anything of its body is read.

What may not pass is answered at once; what its client still sends is dropped, and not for long.
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
Seconds in which the rest of a refused body is dropped.

A connection that is closed while bytes come is reset, and its client may lose the answer (RFC 9112 §9.6).
"""


class ServerRequest(Request):
    """A request of a `ServerSite`."""

    _lingering: IDelayedCall | None = None

    def __repr__(self) -> str:
        """Without the query: Twisted writes this into its log."""
        return f"<{self.method!r} {self.path!r}>"

    def gotLength(self, length: int | None) -> None:
        """Called by the channel before the body."""
        channel: Any = self.channel
        # These are set only when the body has come.
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
        # Nobody is asked to go on with the body.
        self.requestHeaders.removeHeader("Expect")
        self.responseHeaders.setRawHeaders("Date", [datetimeToString()])
        self.responseHeaders.setRawHeaders("Connection", [b"close"])
        self._write(channel.site.refusal(self, problem))
        channel.transport.loseWriteConnection()
        self._lingering = channel.callLater(LINGER, channel.transport.abortConnection)

    def process(self) -> None:
        """The body has come."""
        if self._lingering is None:
            super().process()  # type: ignore[no-untyped-call]
            return
        channel: Any = self.channel
        channel.transport.loseConnection()

    def render(self, resource: IResource) -> None:
        """Answers.  Twisted's own says more, with the query: in its log, and on pages for what is amiss."""
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
