"""
The site: the state that clients' connections share, and the resources that answer their requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.resource import IResource

from logging_proxy.http.answers import REASONS as REASONS
from logging_proxy.http.connection import ServerConnection as ServerConnection
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import HeadCache, parse_request_head
from logging_proxy.http.interfaces import IExchangeRoot
from logging_proxy.http.limits import ServerLimits as ServerLimits
from logging_proxy.http.resources import ResourceRoot
from logging_proxy.net.admission import Admission
from logging_proxy.net.descriptors import most_clients


class Site(ServerFactory):
    """
    Carries a tree of twisted.web resources over HTTP/1.1.

    `root` is any `IResource`; one that provides `IExchangeRoot` is given
    requests at the end of their heads; any other gets them complete, as from twisted.web.
    """

    noisy = False

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        limits: ServerLimits,
        secure: bool = False,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is for deadlines, and may be monotonic; `wall_seconds` gives the time for clients."""
        self.clock = clock
        self.wall_seconds = wall_seconds
        self.limits = limits
        self.scheme = b"https" if secure else b"http"
        self.heads = HeadCache(parse_request_head, limits.header_fields)
        self.deadlines = Deadlines(clock)
        self.now = clock.seconds
        self.closing = False
        self.connections: set[ServerConnection] = set()
        self.admission = Admission(self.connections, most_clients)
        self.root = root

    @property
    def root(self) -> IResource:
        return self._root

    @root.setter
    def root(self, root: IResource) -> None:
        self._root = root
        exchanges = root if IExchangeRoot.providedBy(root) else ResourceRoot(root, self.clock)
        self.respond = exchanges.respond
        self.refuse = exchanges.refuse

    def use(self, root: IResource, limits: ServerLimits) -> None:
        """
        Answer from `root` from now on; new connections have `limits`.

        Exchanges under way go on as they began.  The cache of heads is emptied, since
        cached heads keep the route that they led to.
        """
        self.limits = limits
        self.heads = HeadCache(parse_request_head, limits.header_fields)
        self.root = root

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection:
        return ServerConnection(self)

    def opened(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        self.deadlines.watch(connection)

    def closed(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        self.deadlines.forget(connection)

    # --- clients of a TLS listener that have not shaken hands --------------------------------

    @property
    def handshake_timeout(self) -> float:
        """The same time as for a request's head."""
        return self.limits.head_timeout

    def refuse_plain(self, transport: Any, data: bytes) -> None:
        """Answer a client that speaks plain HTTP where TLS is spoken; the connection closes after it."""
        connection = self.buildProtocol(transport.getPeer())
        transport.protocol = connection
        connection.makeConnection(transport)  # type: ignore[no-untyped-call]
        fault = RequestFault(400, "plain HTTP on a port that speaks TLS: use https:// in the URL")
        connection.refuse_input(fault, data)

    def close(self) -> None:
        """No connection is kept alive from now on; idle ones are closed."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_when_idle()
