"""
The site: what connections share, and the resources that answer their requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.resource import IResource

from logging_proxy.admission import Admission
from logging_proxy.descriptors import most_clients
from logging_proxy.http.answers import REASONS as REASONS
from logging_proxy.http.answers import own_answer
from logging_proxy.http.connection import ServerConnection as ServerConnection
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import HeadCache, parse_request_head
from logging_proxy.http.interfaces import IExchangeResource
from logging_proxy.http.limits import ServerLimits as ServerLimits
from logging_proxy.http.resources import ResourceRoot


class Site(ServerFactory):
    """
    Carries a tree of twisted.web resources over HTTP/1.1.

    `root` is any `IResource`; one that provides `IExchangeResource` is given
    requests at the end of their heads, any other the twisted.web way.
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
        """`clock` is for waits, and may count from anywhere; `wall_seconds` is what is told to clients."""
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
        exchanges = root if IExchangeResource.providedBy(root) else ResourceRoot(root, self.clock)
        self.respond = exchanges.respond

    def use(self, root: IResource, limits: ServerLimits) -> None:
        """
        Answer from `root` from now on; new connections have `limits`.

        What is under way goes on as it began.  Heads are parsed anew: the old
        ones remember what they led to.
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

    def refuse(self, connection: ServerConnection, fault: RequestFault) -> None:
        """Say what is wrong with a request that no resource has answered; the connection closes after it."""
        connection.send(fault.answer or own_answer(fault.status, fault.reason, self.wall_seconds()))

    def close(self) -> None:
        """No connection is kept alive from now on; idle ones are closed."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_when_idle()
