"""Detects destinations that resolve to this proxy's own listeners."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

Where = tuple[str, int]
"""An IP address and a port."""

_Address = IPv4Address | IPv6Address

_LOOPBACK: dict[int, _Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}


class LeadsToOurselves(Exception):
    """The connection would loop back to one of our listeners, which the text names."""


class Ourselves:
    """
    The addresses on which this proxy and its logging server listen.

    Destinations are checked after name resolution, so that a name in a hosts file or in DNS
    cannot make a request loop through the proxy until it has no descriptors left.
    """

    def __init__(self, server: Iterable[Where] = ()) -> None:
        """`server` holds the addresses of the embedded logging server."""
        self._proxy: tuple[tuple[_Address, int], ...] = ()
        self._server = _parsed(server)

    def listen_on(self, proxy: Iterable[Where]) -> None:
        """Set the addresses on which the proxy listens."""
        self._proxy = _parsed(proxy)

    @property
    def loopback(self) -> bool:
        """Whether the proxy listens on loopback addresses only."""
        return bool(self._proxy) and all(address.is_loopback for address, _ in self._proxy)

    def check(self, host: str, port: int) -> None:
        """Raise `LeadsToOurselves` if a connection to the address `host` would reach one of the listeners."""
        target = _plain(host)
        if target.is_unspecified:  # a connection to 0.0.0.0 or :: goes to this machine
            target = _LOOPBACK[target.version]
        for owner, listeners in (("the proxy's", self._proxy), ("the logging server's", self._server)):
            if any(_arrives(target, port, *listener) for listener in listeners):
                raise LeadsToOurselves(f"{target} port {port} is {owner} own listener")


def addresses_of(sockets: Iterable[socket.socket]) -> list[Where]:
    """The addresses of listening sockets."""
    return [each.getsockname()[:2] for each in sockets]


def _parsed(listeners: Iterable[Where]) -> tuple[tuple[_Address, int], ...]:
    return tuple((_plain(host), port) for host, port in listeners)


def _plain(host: str) -> _Address:
    address = ip_address(host)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _arrives(target: _Address, port: int, listener: _Address, its_port: int) -> bool:
    if port != its_port:
        return False
    if listener.is_unspecified:
        return target.version == listener.version and _is_of_this_machine(target)
    return target == listener


def _is_of_this_machine(address: _Address) -> bool:
    """Whether the address can be bound: the only way to ask about the addresses of all interfaces."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
