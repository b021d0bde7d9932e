"""
Sending to peers on this machine as fast as they take it.

Where the system's congestion control is BBR, timers pace what is sent.  To a peer on the
same machine there is no network that this could spare, and the timers are 150 of the 900 µs that
the proxy spends on a MiB.  Once pacing has begun it stays, whatever is set, so
sockets are told before they listen or connect.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from twisted.internet import tcp

from logging_proxy.net.descriptors import refuse_last

_LONGEST_NAME = 16
_UNPACED = b"reno"
"""Every Linux has it, and every process may choose it."""


def do_not_pace(of: socket.socket) -> None:
    """For a socket that will listen on, or connect to, a loopback address.  A wish: it never fails."""
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            if of.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _LONGEST_NAME).startswith(b"bbr"):
                of.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _UNPACED)


def is_local(address: str) -> bool:
    """Whether `address`, which may be a name, is a number of this machine's loopback interface."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Connector(tcp.Connector):
    """What `connectTCP` makes: a connection that leaves the last descriptors to others."""

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
