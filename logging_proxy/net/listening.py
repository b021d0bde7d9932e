"""Listening sockets, bound before anything is started, so that a busy port is one clear error message."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from contextlib import suppress

from logging_proxy.net.holders import holder_of
from logging_proxy.net.keepalive import keep_alive
from logging_proxy.net.pacing import do_not_pace, is_local

BACKLOG = 1024
"""Length of the accept queue; Twisted's 50 is too short for a burst of connections.  nginx has 511."""


class CannotListen(Exception):
    """The text says where and why, in one line."""


LOCALHOST = ("127.0.0.1", "::1")
"""The addresses of `localhost`, whatever a hosts file says (RFC 6761 §6.3)."""

EVERY = ("0.0.0.0", "::")
"""The addresses of `::`: one socket per family, so that IPv4 addresses of clients are not mapped to IPv6."""

ATTEMPTS = 20
"""With port 0, how many ports are tried until one is free on every address."""


def bind(host: str, port: int) -> list[socket.socket]:
    """
    Sockets that listen on all addresses of `host`, on the same port.

    `localhost` is 127.0.0.1 and ::1, as far as the machine has both, and `::` includes every address of
    IPv4.  With port 0 the system chooses a port.  Raises `CannotListen`.
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
        holder = holder_of(port) if error.errno == errno.EADDRINUSE else ""
        reason = f"port {port} is in use by {holder}" if holder else os.strerror(error.errno or 0)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from None


def addresses(host: str) -> list[str]:
    """The addresses that `bind` uses for `host`; none for a name that cannot be resolved."""
    try:
        return [address for _, address in _addresses(host)]
    except OSError:
        return []


def _addresses(host: str) -> list[tuple[int, str]]:
    """Pairs of family and address, without duplicates."""
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
    """An address in its canonical form, a name in lower case."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _bind_all(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    """One socket for each address that this machine has; there must be at least one."""
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
            do_not_pace(listener)  # accepted connections inherit it
        keep_alive(listener)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


# --- closing a port without losing connections --------------------------------------------

_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER of Linux, which the module `socket` does not name."""

_FLAGS, _SYN = 13, 0x02
"""Offset of the flags in a TCP header (RFC 9293 §3.1), and the flag of a connection request."""

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
"""A BPF program: drop segments with SYN, keep all others."""


def drop_syns(listener: socket.socket) -> None:
    """
    Have the kernel drop new connection requests (SYN) to a listening socket.

    Connections in the accept queue can still be accepted.  Closing the socket would reset
    any that arrived after the last accept, and each is a failed request of a client.  A client whose SYN
    was dropped repeats it after a second, and reaches whatever listens then.  Linux only, best effort.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    about = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, about)
