"""
The end of an incomplete response: the client's connection is reset after the client has received all bytes.

A reset discards unsent and unacknowledged bytes, in our queue and in the kernel's, so it is delayed until
there are none, but not for ever: the client may have stopped reading.
"""

from __future__ import annotations

from twisted.protocols.policies import ProtocolWrapper

from logging_proxy.http.server import ServerConnection
from logging_proxy.net.wire import unreceived

PATIENCE = 5.0
"""Seconds without progress after which the connection is reset nevertheless."""


def reset_when_received(connection: ServerConnection) -> None:
    """Reset `connection` as soon as the client has acknowledged everything it was sent."""
    if unreceived(connection.transport) or isinstance(connection.transport, ProtocolWrapper):
        _DelayedReset(connection)  # TLS encrypts in the reactor's next turn only
    else:
        connection.abort()


class _DelayedReset:
    """Checks again whenever the site checks its deadlines, which is twice a second."""

    def __init__(self, connection: ServerConnection) -> None:
        self.deadline = 0.0
        self._connection = connection
        self._left = unreceived(connection.transport)
        self._until = connection.site.now() + PATIENCE
        connection.site.deadlines.watch(self)

    def timedOut(self) -> None:
        site, left = self._connection.site, unreceived(self._connection.transport)
        if left < self._left:
            self._until = site.now() + PATIENCE
        self._left = left
        if left and site.now() < self._until:
            self.deadline = 0.0
            return
        site.deadlines.forget(self)
        self._connection.abort()
