"""Name resolution."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

Address = IPv4Address | IPv6Address

Find = Callable[[Any, str, int], Deferred[list[Address]]]

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

_KINDS: dict[int, type[Address]] = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}


def find_addresses(reactor: Any, host: str, port: int) -> Deferred[list[Address]]:
    """
    Resolve `host` to at least one address, in the order given by the system's resolver, in a thread.

    Fails with `DNSLookupError` whatever the resolver raises; the Deferred of Twisted's own resolver
    never fires for errors other than `gaierror`.  Cancelling does not stop the thread, but its
    result is discarded.
    """
    finding = deferToThreadPool(reactor, reactor.getThreadPool(), _look_up, host, port)
    return finding.addErrback(_not_found, host)


def _look_up(host: str, port: int) -> list[Address]:
    name = host.lower().removesuffix(".")
    if name.endswith(".localhost") or name == "localhost":
        host = "localhost"  # RFC 6761 §6.3; hosts files lack its subdomains and the form with a final dot
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [
        _KINDS[family]("TCP", str(where[0]), int(where[1]))
        for family, _, _, _, where in found
        if family in _KINDS
    ]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "it has no address")
    return addresses


def _not_found(failure: Failure, host: str) -> Failure:
    error = failure.value
    if isinstance(error, CancelledError):
        return failure
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
        return Failure(DNSLookupError(f"no such host: {host}"))
    why = error.strerror if isinstance(error, OSError) else None
    text = f"the name {host} cannot be resolved: {why or type(error).__name__}"
    return Failure(DNSLookupError(text))
