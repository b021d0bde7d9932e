"""
Many trees of routes behind one listener, for tests that ask many sets of patterns over the wire.

    python -m logging_proxy.test.e2e.many_trees sets.json

The field `X-Set` of a request chooses the tree.  Each route leads to a path of an upstream that says which
target it was asked for: `/SET/ROUTE/`.  The port is the first line of the output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from zope.interface import implementer

from logging_proxy.configuration import read_configuration
from logging_proxy.demo.tether import follow_parent
from logging_proxy.http.bodies import Piece
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeRoot
from logging_proxy.http.protocols import Responder
from logging_proxy.http.server import ServerConnection, ServerLimits, Site
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.proxy.tree import RouteTree

reactor: Any = global_reactor


class Teller(Protocol):
    """An upstream that answers requests without a body with the target that they ask for."""

    _buffer = b""

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 200 OK\r\nX-Target: " + target + b"\r\nContent-Length: 0\r\n\r\n")


@implementer(IExchangeRoot)
class Chooser(Resource):
    """Hands each request to the tree that it names."""

    isLeaf = True

    def __init__(self, trees: list[RouteTree]) -> None:
        super().__init__()
        self._trees = trees

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> Responder | None:
        (number,) = head.values(b"x-set")
        return self._trees[int(number)].respond(connection, head, piece)

    def refuse(self, connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        self._trees[0].refuse(connection, fault, kept)


def tree_of(number: int, patterns: list[str], port: int) -> RouteTree:
    """The tree of a proxy whose routes lead to the upstream at `port`."""
    routes = {
        f"r{place}": {"pattern": pattern, "destination": f"http://127.0.0.1:{port}/{number}/{place}/"}
        for place, pattern in enumerate(patterns)
    }
    logging = {"console": False, "default": False}
    text = yaml.safe_dump({"logging": logging, "routes": routes}, sort_keys=False, allow_unicode=True)
    configuration = read_configuration(text, f"set {number}", {})
    return Forwarding(reactor, None, lambda configuration: ()).use(configuration)


def main(path: str) -> None:
    """Listen until the process is ended."""
    follow_parent()
    sets = json.loads(Path(path).read_text("utf-8"))
    upstream = reactor.listenTCP(0, Factory.forProtocol(Teller), interface="127.0.0.1").getHost().port
    trees = [tree_of(number, patterns, upstream) for number, patterns in enumerate(sets)]
    port = reactor.listenTCP(0, Site(Chooser(trees), reactor, ServerLimits()), interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
