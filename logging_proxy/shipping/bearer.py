"""Requests to a logging server on this machine, with the token that it keeps in its log directory."""

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
    An agent whose requests show a token, if `read` gives one.

    It is read when it is needed and again after it was refused: the server that makes it may start
    later than we do, and may have another one then.
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
