"""
No pacing for connections to this machine.

Where the system's congestion control is BBR, timers pace outgoing data.  On a connection within the
machine there is no network that could be congested, and the timers only cost processor time.  Once
pacing has begun it cannot be stopped, so sockets are configured before they listen or connect.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from twisted.internet import tcp

from logging_proxy.net.descriptors import refuse_last

_LONGEST_NAME = 16
_UNPACED = b"reno"
"""Available on every Linux, and allowed for every process."""


def do_not_pace(of: socket.socket) -> None:
    """Configure a socket that will listen on, or connect to, a loopback address.  Best effort."""
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            if of.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _LONGEST_NAME).startswith(b"bbr"):
                of.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _UNPACED)


def is_local(address: str) -> bool:
    """Whether `address`, which may also be a name, is a loopback address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Connector(tcp.Connector):
    """The connector of `connectTCP`; its connections leave the reserved descriptors alone."""

    def _makeTransport(self) -> tcp.Client:
        kind = _LocalClient if is_local(self.host) else _Client
        return kind(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


class _Client(tcp.Client):
    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        refuse_last(made)
        return made


class _LocalClient(_Client):
    def createInternetSocket(self) -> socket.socket:
        made = super().createInternetSocket()
        do_not_pace(made)
        return made
