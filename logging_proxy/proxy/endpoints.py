"""Where connections to a destination go: the one module that knows how to reach one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from logging_proxy.routing.mapping import Destination


def endpoint_for(reactor: Any, destination: Destination, timeout: float) -> IStreamClientEndpoint:
    """
    TCP or TLS to `destination`; a connection must stand within `timeout` seconds.

    TLS verifies the certificate's chain and name before anything is sent, and
    offers HTTP/1.1 alone.
    """
    tcp = _tcp(reactor, destination, timeout)
    if destination.scheme == "http":
        return tcp
    options = optionsForClientTLS(destination.host, acceptableProtocols=[b"http/1.1"])
    endpoint: IStreamClientEndpoint = wrapClientTLS(options, tcp)
    return endpoint


def _tcp(reactor: Any, destination: Destination, timeout: float) -> IStreamClientEndpoint:
    """An address needs no resolving, and then no thread."""
    try:
        address = ip_address(destination.host)
    except ValueError:
        return HostnameEndpoint(reactor, destination.host.encode(), destination.port, timeout=timeout)
    endpoint = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
    return endpoint(reactor, destination.host, destination.port, timeout=timeout)
