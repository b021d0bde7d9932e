"""Requests to a logging server on this machine, authorised by the token in its log directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer


@implementer(IAgent)
class BearerAgent:
    """
    An agent that adds a bearer token to requests, if `read` returns one.

    The token is read before the first request, and again after a 401: the server that creates it may start
    later than the shipper, or may have a new token after a restart.
    """

    def __init__(self, agent: IAgent, read: Callable[[], str | None]) -> None:
        self._agent = agent
        self._read = read
        self._token: str | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """As `IAgent.request`."""
        self._token = self._token or self._read()
        shown = Headers() if headers is None else headers.copy()
        if self._token is not None:
            shown.setRawHeaders(b"Authorization", [b"Bearer " + self._token.encode("ascii")])
        return self._agent.request(method, uri, shown, bodyProducer).addCallback(self._look)

    def _look(self, response: Any) -> Any:
        if response.code == 401:
            self._token = None
        return response
