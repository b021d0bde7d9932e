"""Which hosts belong to this machine, judged by their text alone: names are not resolved."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

LOOPBACK = frozenset({ip_address("127.0.0.1"), ip_address("::1")})
"""The addresses of `localhost`."""
_EVERY = frozenset({ip_address("0.0.0.0"), ip_address("::")})

Host = IPv4Address | IPv6Address | str


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` is unreachable from other machines."""
    return all(_loops(address) for address in _hosts(host))


def reaches(destination: str, listener: str) -> bool:
    """Whether a connection to the host `destination` reaches a listener on the host `listener`."""
    targets, bound = _hosts(destination), _hosts(listener)
    if targets & _EVERY:
        # A connection to 0.0.0.0 or :: goes to this machine.
        targets = LOOPBACK
    if bound & _EVERY:
        return any(_loops(target) for target in targets)
    return bool(targets & bound)


def collide(one: str, other: str) -> bool:
    """Whether two listeners with the same port conflict on these hosts."""
    return bool(_hosts(one) & _hosts(other) or (_hosts(one) | _hosts(other)) & _EVERY)


def address(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address written in `host`, or None for a name."""
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _hosts(host: str) -> frozenset[Host]:
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return LOOPBACK
    return frozenset({address(name) or _old_address(name) or name})


def _old_address(host: str) -> IPv4Address | None:
    """An IPv4 address in a notation that the C library also accepts: 127.1, 0x7f000001, 2130706433."""
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _loops(host: Host) -> bool:
    return not isinstance(host, str) and host.is_loopback
