"""
File descriptor limits, and how they are shared out.

Every client uses up descriptors, but must not use up those that recording
needs: opening a segment, or the files of a capture, has to succeed
regardless of the number of connections.
"""

from __future__ import annotations

import errno
import os
import resource
import socket

MOST = 65_536
"""Descriptors requested at the start, and assumed when there is no limit."""

RESERVED = 64
"""Descriptors that a proxy reserves: recording, name resolution, the log, the logging server's process."""

MOST_VISITORS = 1024
"""Most connections to a logging server: it has few clients, but each may send much data."""

SHARE = 8
"""They take 1/`SHARE` of the descriptors; uploads take as many again, the rest is for storage."""


def raise_limit() -> None:
    """Raise the limit as far as permitted: an exchange needs two, a spool 130; the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many descriptors this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def most_clients() -> int:
    """How many connections a proxy accepts; each may need another one to its destination."""
    return max(1, (limit() - RESERVED) // 2)


def most_visitors() -> int:
    """How many connections a logging server accepts."""
    return max(8, min(MOST_VISITORS, limit() // SHARE))


def refuse_last(of: socket.socket) -> None:
    """
    Close the socket and raise OSError if its descriptor is one of those reserved for other purposes.

    The system assigns the lowest free number, so a high number means that few are left.
    """
    if of.fileno() >= limit() - RESERVED // 2:
        of.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
