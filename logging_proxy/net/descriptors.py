"""
How many descriptors a process may have, and how they are shared out.

Whoever can connect takes descriptors, and must not be able to take those that
recording needs: opening a segment, or the files of a capture, has to succeed
however many connections there are.
"""

from __future__ import annotations

import errno
import os
import resource
import socket

MOST = 65_536
"""Descriptors that are asked for at the start, and counted with when there is no limit."""

RESERVED = 64
"""Of a proxy: for recording, resolving names, the log, the logging server's process."""

MOST_VISITORS = 1024
"""Connections to a logging server at most; it is asked by few, and each may send it much."""

SHARE = 8
"""They take one descriptor in so many: uploads take as many again, the rest is for storing."""


def raise_limit() -> None:
    """As many descriptors as we may have: an exchange needs two, a spool 130; the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def most_clients() -> int:
    """How many connections a proxy takes: each may need another one to its destination."""
    return max(1, (limit() - RESERVED) // 2)


def most_visitors() -> int:
    """How many connections a logging server takes."""
    return max(8, min(MOST_VISITORS, limit() // SHARE))


def refuse_last(of: socket.socket) -> None:
    """
    Raises OSError, and closes the socket, if what is left of the descriptors is not for connections.

    The system gives the lowest free number, so a high one means that few are left.
    """
    if of.fileno() >= limit() - RESERVED // 2:
        of.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
