"""
The end of a response that is not whole: pass on what came, then reset.

A reset throws away what still waits to be sent, so it has to wait for that,
but not for ever: the client may have stopped reading.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPullProducer
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.server import ServerConnection
from logging_proxy.http.wire import queue_length

PATIENCE = 5.0
"""Seconds that a client has to take what came before the reset."""


def reset_when_sent(connection: ServerConnection) -> None:
    """
    Reset `connection` as soon as its transport has sent what it holds, at once if that is nothing.

    The transport must have no producer.  A TLS transport does not say when it has sent; there it is at once.
    """
    queued = queue_length(connection.transport)
    if queued() and not isinstance(connection.transport, ProtocolWrapper):
        _Farewell(connection, queued).begin()
    else:
        connection.abort()


@implementer(IPullProducer)
class _Farewell:
    """Is asked by the transport for more whenever it has sent everything."""

    def __init__(self, connection: ServerConnection, queued: Callable[[], int]) -> None:
        self.deadline = connection.site.now() + PATIENCE
        self._connection = connection
        self._queued = queued

    def begin(self) -> None:
        self._connection.site.deadlines.watch(self)
        self._connection.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if not self._queued():  # the first call comes from registering, before anything has left
            self.timedOut()

    def stopProducing(self) -> None:
        self.deadline = NEVER
        self._connection.site.deadlines.forget(self)

    def timedOut(self) -> None:
        self.stopProducing()
        self._connection.transport.unregisterProducer()
        self._connection.abort()
