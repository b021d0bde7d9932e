"""Time-outs and sizes: how long peers may take, and how much they may send."""

from __future__ import annotations

from dataclasses import dataclass

LINGER = 5.0
"""
Seconds that input is still read and dropped after an answer that closes: closing
at once would reset the connection and could destroy the answer on its way
(RFC 9112 §9.6).  nginx has 5 s, Go 0.5 s.
"""

LONGEST_LINGER = 30.0
"""
Seconds that such input is read in all, for as long as it keeps coming: a client that sends all of a
large body before it reads gets its answer.  nginx's lingering_time is 30 s as well.
"""

STALL = 60.0
"""Seconds without progress that the last bytes of a closing connection may wait; nginx has 60 s."""

NEWCOMER = 1.0
"""Seconds that a client which has just connected has for its first request when the service stops; Go: 5."""

MOST_PIPELINED = 65536
"""Bytes of further requests that are read ahead, so that a client that leaves is noticed."""

MOST_UNSENT = 262144
"""Bytes of answers that a client may leave unread before its next request is processed."""

UNSENT_LOOK = 0.05
"""Seconds between two checks whether such a client has read more."""


RESPONSE_HEAD_LIMIT, RESPONSE_FIELDS = 262144, 1000
"""Bytes and fields of a response's head."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Seconds and bytes, as in the configuration's `server` section."""

    head_limit: int = 65536
    header_fields: int = 200
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    keep_alive_timeout: float = 75.0
    send_timeout: float = 300.0
    half_close_cancels: bool = True


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """
    How long an upstream may take, what its heads may hold, and how many idle connections are kept.

    Seconds and bytes.  Heads of responses may be larger than those of requests: they come from a destination
    that the operator has chosen, and policies and cookies grow.  Go takes 1 MiB, curl 300 KiB.
    """

    connect_timeout: float = 10.0
    head_timeout: float = 600.0
    stream_timeout: float = 3600.0
    head_limit: int = RESPONSE_HEAD_LIMIT
    header_fields: int = RESPONSE_FIELDS
    pool_idle_timeout: float = 15.0
    pool_size: int = 1024
    pool_max_age: float = 300.0
