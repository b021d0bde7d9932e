"""
TCP keepalive: the system probes idle connections.

A model may think for ten minutes without sending anything.  NATs and firewalls drop the state of an idle
connection sooner (AWS after 350 s, others after 60 to 300), and neither side is told.
"""

from __future__ import annotations

import contextlib
import socket

IDLE, INTERVAL, COUNT = 45, 15, 9
"""
Seconds of silence before the first probe, seconds between probes, and unanswered probes until the loss.

Go has 15, 15 and 9; SDKs of model providers have 60.  A vanished peer is detected after three minutes.
"""

_OPTIONS = (
    # macOS has another name for the first one.
    (getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)), IDLE),
    (getattr(socket, "TCP_KEEPINTVL", None), INTERVAL),
    (getattr(socket, "TCP_KEEPCNT", None), COUNT),
)


def keep_alive(of: socket.socket) -> None:
    """Enable probes on `of`, and on connections that `of` accepts, which inherit them.  Best effort."""
    with contextlib.suppress(OSError):
        of.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _OPTIONS:
            if option is not None:
                of.setsockopt(socket.IPPROTO_TCP, option, value)
