"""Listening sockets, bound before anything is started: a busy port is one clear line."""

from __future__ import annotations

import errno
import os
import socket

BACKLOG = 1024
"""Connections that wait to be accepted; Twisted's 50 is too few for a burst.  nginx has 511."""


class CannotListen(Exception):
    """The text says where and why, in one line."""


def bind(host: str, port: int) -> list[socket.socket]:
    """
    Sockets that listen on all addresses of `host`, all on the same port.

    `localhost` is both 127.0.0.1 and ::1, where the machine has both.  With
    port 0 the system chooses one.  Raises `CannotListen`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from None
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_listen(family, str(address[0]), port or _port_of(sockets)))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(found) > 1:
                continue
            for each in sockets:
                each.close()
            reason = os.strerror(error.errno or 0)
            raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from None
    if not sockets:
        raise CannotListen(f"cannot listen on {host}:{port}: no address of it is on this machine")
    return sockets


def _port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1]) if sockets else 0


def _listen(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
