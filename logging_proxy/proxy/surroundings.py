"""Values that the resources of one tree share, and addresses of a client's connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.address import IPv4Address, IPv6Address

from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.recording.events import Publish, Recorder
from logging_proxy.recording.records import field


@dataclass(slots=True)
class Surroundings:
    """Values and functions that the resources of one tree share."""

    recorder: Recorder | None
    policy: ForwardedPolicy
    publish: Publish
    """Called with the events of exchanges."""
    record_unknown: bool
    not_found: bytes
    wall_ns: Callable[[], int] = time.time_ns
    random: Callable[[int], bytes] = os.urandom
    takes_host: Callable[[bytes], bool] = lambda host: True
    """Whether requests for a host, as the client names it, are answered; if not, 421."""


def client_field(connection: ServerConnection) -> bytes:
    """The client's address for a record: `address port`, made once for each connection."""
    prepared = connection.prepared.get(client_field)
    if prepared is None:
        peer = connection.peer
        text = f"{peer.host} {peer.port}" if isinstance(peer, IPv4Address | IPv6Address) else ""
        prepared = connection.prepared[client_field] = field(text.encode())
    return prepared


def client_address(connection: ServerConnection) -> bytes:
    peer = connection.peer
    return peer.host.encode() if isinstance(peer, IPv4Address | IPv6Address) else b"unknown"


def local_address(connection: ServerConnection) -> bytes:
    """The host and port that the client has connected to, for requests without a Host."""
    host = connection.transport.getHost()
    if isinstance(host, IPv6Address):
        return f"[{host.host}]:{host.port}".encode()
    return f"{host.host}:{host.port}".encode() if isinstance(host, IPv4Address) else b""
