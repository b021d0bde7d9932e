"""
Orders: the messages to a worker, each with the descriptors that belong to it.

An order is sent through a socket pair as its length and a pickle; only the two
processes have the pair.  The worker confirms each order after carrying it out.
When either process ends, however it ends, the other reads EOF.
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
"""Maximum size of an order in bytes: enough for a configuration of many routes with their certificates."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Prepare to work.  This is the first order, and carries the board's descriptor."""

    configuration: Configuration
    spool: Path | None
    """Directory to record to; None if nothing is recorded."""
    logging: LoggingOptions
    """Recording options; fixed from the proxy's start, so that all workers agree."""
    workers: int = 1
    """The number of workers."""
    server: tuple[Where, ...] = ()
    """The addresses on which the embedded logging server listens."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept on the sockets that are attached."""


@dataclass(frozen=True, slots=True)
class Use:
    """Use this configuration; attached sockets replace the current ones."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop accepting, finish the exchanges in flight, and end."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """End the exchanges in flight at once."""


Order = Begin | Listen | Use | Stop | Hurry


class HasDescriptor(Protocol):
    """An object with a file descriptor, such as a socket or an open file."""

    def fileno(self) -> int: ...


class Commander(Int32StringReceiver):
    """The main process's end of the link."""

    MAX_LENGTH = LONGEST

    def __init__(self) -> None:
        self._given: deque[tuple[Deferred[None], list[int]]] = deque()

    def give(self, order: Order, attached: Sequence[HasDescriptor] = ()) -> Deferred[None]:
        """Send an order.  Fires when it has been carried out, or when the worker is gone."""
        done: Deferred[None] = Deferred()
        transport: Any = self.transport
        if transport is None or transport.disconnected:
            done.callback(None)
            return done
        # Duplicated, so that the caller may close its own before these are sent.
        copies = [os.dup(each.fileno()) for each in attached]
        self._given.append((done, copies))
        for fd in copies:
            transport.sendFileDescriptor(fd)
        self.sendString(pickle.dumps((order, len(copies))))  # type: ignore[no-untyped-call]
        return done

    def stringReceived(self, string: bytes) -> None:
        """The worker confirms the oldest order that is pending."""
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
    """The worker's end of the link.  Orders are carried out one after the other."""

    MAX_LENGTH = LONGEST
    _log = Logger()

    def __init__(
        self, obey: Callable[[Order, list[int]], Awaitable[None]], alone: Callable[[], None]
    ) -> None:
        """`obey` takes ownership of the descriptors; `alone` is called when the main process is gone."""
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
            self._log.failure("an order of the main process failed")
        self.sendString(b"")  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._alone()
