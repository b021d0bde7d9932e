"""
TCP keepalive: probes on connections on which nothing is said.

A model may think for ten minutes without a word.  NATs and firewalls forget a silent
connection sooner (AWS after 350 s, others after 60 to 300), and neither side hears of it.
"""

from __future__ import annotations

import contextlib
import socket

IDLE, INTERVAL, COUNT = 45, 15, 9
"""
Seconds of silence before the first probe, seconds between two, and how many may stay without answer.

Go has 15, 15 and 9, SDKs of models have 60.  A peer that is gone is lost after three minutes.
"""

_OPTIONS = (
    # macOS has another name for the first.
    (getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)), IDLE),
    (getattr(socket, "TCP_KEEPINTVL", None), INTERVAL),
    (getattr(socket, "TCP_KEEPCNT", None), COUNT),
)


def keep_alive(of: socket.socket) -> None:
    """Have the system probe `of`, or what `of` accepts: that is inherited.  A wish: it never fails."""
    with contextlib.suppress(OSError):
        of.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _OPTIONS:
            if option is not None:
                of.setsockopt(socket.IPPROTO_TCP, option, value)
