"""
Orders: what a worker is told, in order, each with the descriptors that belong to it.

They pass through a socket pair that only the two processes hold, as length
and pickle.  The worker answers each that it has carried out; when one side is
gone, however it ended, the other reads the end.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.configuration import Configuration, LoggingOptions
from logging_proxy.outbound.ourselves import Where

LONGEST = 1 << 30
"""Bytes of an order: a configuration of many routes, with its certificates."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Be ready.  Comes first, with the board's descriptor."""

    configuration: Configuration
    spool: Path | None
    """Where to record, if anything is."""
    logging: LoggingOptions
    """How: as all workers do since the proxy's start."""
    workers: int = 1
    """How many there are."""
    server: tuple[Where, ...] = ()
    """Where the embedded logging server listens."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept on the sockets that come with this."""


@dataclass(frozen=True, slots=True)
class Use:
    """Go on with this configuration; sockets that come with it take the place of those before."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop accepting, let what is in flight finish, and end."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """Do not wait for what is in flight any longer."""


Order = Begin | Listen | Use | Stop | Hurry


class HasDescriptor(Protocol):
    """A socket, or an open file."""

    def fileno(self) -> int: ...


class Commander(Int32StringReceiver):
    """The proxy's end."""

    MAX_LENGTH = LONGEST

    def __init__(self) -> None:
        self._given: deque[tuple[Deferred[None], list[int]]] = deque()

    def give(self, order: Order, attached: Sequence[HasDescriptor] = ()) -> Deferred[None]:
        """Give an order.  Fires when it has been carried out, or when there is nobody any more to do so."""
        done: Deferred[None] = Deferred()
        transport: Any = self.transport
        if transport is None or transport.disconnected:
            done.callback(None)
            return done
        # Ours are copies: what the caller does with his is no matter of when they are sent.
        copies = [os.dup(each.fileno()) for each in attached]
        self._given.append((done, copies))
        for fd in copies:
            transport.sendFileDescriptor(fd)
        self.sendString(pickle.dumps((order, len(copies))))  # type: ignore[no-untyped-call]
        return done

    def stringReceived(self, string: bytes) -> None:
        """The oldest order has been carried out."""
        self._settle()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        while self._given:
            self._settle()

    def _settle(self) -> None:
        done, copies = self._given.popleft()
        for fd in copies:
            os.close(fd)
        done.callback(None)


@implementer(IFileDescriptorReceiver)
class Subordinate(Int32StringReceiver):
    """The worker's end: hands orders over one by one, each when the one before has been carried out."""

    MAX_LENGTH = LONGEST
    _log = Logger()

    def __init__(
        self, obey: Callable[[Order, list[int]], Awaitable[None]], alone: Callable[[], None]
    ) -> None:
        """`obey` is given the descriptors as its own; `alone` is called when the other side is gone."""
        self._obey = obey
        self._alone = alone
        self._descriptors: deque[int] = deque()
        self._doing: Deferred[None] = Deferred()
        self._doing.callback(None)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptors.append(descriptor)

    def stringReceived(self, string: bytes) -> None:
        order, count = pickle.loads(string)
        attached = [self._descriptors.popleft() for _ in range(count)]
        self._doing.addCallback(lambda _: Deferred.fromCoroutine(self._carry_out(order, attached)))

    async def _carry_out(self, order: Order, attached: list[int]) -> None:
        try:
            await self._obey(order, attached)
        except Exception:
            self._log.failure("an order could not be carried out")
        self.sendString(b"")  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._alone()
