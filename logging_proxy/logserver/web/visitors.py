"""
Clients that need no token: on loopback, processes of the server's own user and of root.

Both users could read the capture files anyway.  All other clients need the token, and so do clients whose
user the kernel does not report.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from twisted.web.server import Request

from logging_proxy.net.peer_user import ROOT, kernel_tells, user_of_peer
from logging_proxy.recording.token_file import NAME

Look = Callable[[Any], "int | None"]
"""Gives the user id at the other end of a transport; None when it is unknown."""


def look(tells: Callable[[], bool] = kernel_tells) -> Look:
    """
    The look-up in the kernel, or one that knows no user if the kernel does not support it.

    Without the check, a kernel that lacks the module would search the disk for it at every look-up.
    """
    return ask_kernel if tells() else lambda transport: None


def ask_kernel(transport: Any) -> int | None:
    return user_of_peer(transport.getHandle())


class Visitors:
    """Tells the users behind connections; each connection is looked up once."""

    def __init__(self, look: Look, own_user: Callable[[], int] = os.geteuid) -> None:
        self._look = look
        self._own_user = own_user
        self._users: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()

    def is_welcome(self, request: Request) -> bool:
        """Whether the request comes from the server's own user, or from root."""
        return self._user(request) in (self._own_user(), ROOT)

    def advice(self, request: Request) -> str:
        """Tells the user of a refused client what to do."""
        own = self._own_user()
        who = "root" if own == ROOT else f"{_name(own)} and root"
        unknown = ", and cannot tell who asks" if self._user(request) is None else ""
        return (
            f"This logging server answers only {who}{unknown}. Send the token, which is in the file {NAME} "
            "of its log directory, as `Authorization: Bearer ...`."
        )

    def _user(self, request: Request) -> int | None:
        channel: Any = request.channel
        transport = channel.transport
        if transport not in self._users:
            self._users[transport] = self._look(transport)
        return self._users[transport]


@cache
def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"
