"""Listening sockets, bound before anything is started: a busy port is one clear line."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from contextlib import suppress

from logging_proxy.net.keepalive import keep_alive
from logging_proxy.net.pacing import do_not_pace, is_local

BACKLOG = 1024
"""Connections that wait to be accepted; Twisted's 50 is too few for a burst.  nginx has 511."""


class CannotListen(Exception):
    """The text says where and why, in one line."""


LOCALHOST = ("127.0.0.1", "::1")
"""What `localhost` is, whatever a hosts file says (RFC 6761 §6.3)."""

EVERY = ("0.0.0.0", "::")
"""What `::` is: a socket for each family, so that IPv4 addresses of clients stay what they are."""

ATTEMPTS = 20
"""Ports that are tried with port 0, until one is free on every address."""


def bind(host: str, port: int) -> list[socket.socket]:
    """
    Sockets that listen on all addresses of `host`, all on the same port.

    `localhost` is both 127.0.0.1 and ::1, where the machine has both, and `::` is every address of
    IPv4 as well.  With port 0 the system chooses one.  Raises `CannotListen`.
    """
    try:
        found = _addresses(host)
        for _ in range(ATTEMPTS if port == 0 else 0):
            with suppress(OSError):
                return _bind_all(found, 0)
        return _bind_all(found, port)
    except socket.gaierror as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from None


def addresses(host: str) -> list[str]:
    """The addresses that `bind` takes for `host`; none for a name that cannot be looked up."""
    try:
        return [address for _, address in _addresses(host)]
    except OSError:
        return []


def _addresses(host: str) -> list[tuple[int, str]]:
    """Families and addresses, each once."""
    names = {"localhost": LOCALHOST, "::": EVERY}.get(_canonical(host), (host,))
    found = [
        (int(family), str(address[0]))
        for name in names
        for family, _, _, _, address in socket.getaddrinfo(
            name, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    ]
    return list(dict.fromkeys(found))


def _canonical(host: str) -> str:
    """An address in its one shortest form, and a name in lower case."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _bind_all(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    """A socket for each address that this machine has, for one at least."""
    sockets: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, "")
    for family, address in addresses:
        try:
            sockets.append(_listen(family, address, port or _port_of(sockets)))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                missing = error
                continue
            for each in sockets:
                each.close()
            raise
    if not sockets:
        raise missing
    return sockets


def _port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1]) if sockets else 0


def _listen(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_local(address):
            do_not_pace(listener)  # nor what it accepts: that is inherited
        keep_alive(listener)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


# --- before a port is closed ----------------------------------------------------------

_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER of Linux, which the module `socket` does not name."""

_FLAGS, _SYN = 13, 0x02
"""Where in a TCP header the flags stand (RFC 9293 §3.1), and the one that asks for a connection."""

_LOAD_BYTE, _SKIP_UNLESS, _RETURN = 0x30, 0x45, 0x06
_EVERYTHING = 0xFFFFFFFF
_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_SKIP_UNLESS, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _EVERYTHING),
    )
)
"""A program for the kernel: of a segment with SYN nothing is kept, all else as it is."""


def let_nobody_in(listener: socket.socket) -> None:
    """
    From now on the kernel does not hear who wants to connect to a socket that listens.

    Who has been heard can be accepted.  Closing resets those who came since the last look, be it
    microseconds ago: some client's request fails.  One that was not heard asks again in a second,
    and finds what is at the port by then.  Only Linux can do that, and where it refuses nothing happens.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    about = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, about)
