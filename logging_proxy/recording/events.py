"""
The events of exchanges, their publisher, and the observer that stores them.

An exchange publishes an event (a dict in the shape of `ExchangeEvent`) when it starts, when it has the
head of its response, and when it ends.  The observers of one publisher are isolated from one another.

The pieces of a body, of an event stream or of a tunnel are *not* events: each would cost a dict and a call
of each observer, several thousand times a second.  They go directly to the capture's writer, through
`Capture.passed`, or through the C extension's `Writing` of the same writer.  An observer of bodies belongs
in the logging server, which reads the spool.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypedDict, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogPublisher, globalLogPublisher
from zope.interface import implementer

from logging_proxy.recording.writer import CaptureWriter, Passed


class Capture:
    """The place of one exchange in the spool, until its END record."""

    __slots__ = ("_write", "number", "writer")

    def __init__(self, number: int, writer: CaptureWriter, write: Callable[[int, Passed], None]) -> None:
        """`write` is the `write` of `writer`, or a faster equivalent."""
        self.number = number
        self.writer = writer
        self._write = write

    def passed(self, *records: tuple[int, int, bytes]) -> None:
        """
        Store records between two events, in order, without an event of their own.

        Afterwards `full` tells whether their bytes may be passed on.
        """
        self._write(self.number, records)

    def read_buffer(self, most: int) -> memoryview | None:
        """Memory to read the next piece of a body into, see `CaptureWriter.read_buffer`."""
        return self.writer.read_buffer(most)

    @property
    def full(self) -> bool:
        return self.writer.full

    def when_room(self) -> Deferred[None]:
        return self.writer.when_room()


class _OfExchange(TypedDict):
    """Keys of every event of an exchange."""

    exchange: bytes
    """The exchange's UUID, 16 bytes."""
    capture: Capture | None
    """Its capture; None if it is not recorded."""
    records: Passed
    """The records that this event adds to the capture; none if there is no capture."""


class ExchangeEvent(_OfExchange, total=False):
    """
    A step of an exchange.

    Which keys there are tells which step it is: `method` at the start, `response` at the response's head,
    `outcome` at the end.  Simultaneous steps are one event: a short response arrives with its end, and a
    malformed request is refused in one step.  Each of the three happens once, but for `response` where
    there is none.  The values are as they were sent and received: a text for people has to redact them.
    """

    method: bytes
    """The request's method; `-` where it cannot be read."""
    target: bytes
    """The request's target, as the client sent it."""
    where: str
    """The URL that the request goes to, or why it is not forwarded, such as `NOT_FOUND`."""
    response: bytes
    """The head of the final response, as it was received, or as the proxy made it."""
    outcome: str
    """How the exchange ended, one of `records.OUTCOMES`."""
    error: str
    """The reason, if it did not end well."""
    sent: int
    """At the end: bytes of the request's body, or of what a tunnel carried to the destination."""
    received: int
    """At the end: the same of the response."""
    ours: bool
    """Whether the response is the proxy's own; absent if it is the destination's."""


Publish = Callable[[ExchangeEvent], None]


def publisher(*observers: ILogObserver) -> Publish:
    """
    Calls each of `observers` with each event; one that raises disturbs neither the others nor the exchange.

    Its exception is logged in the process's log, and it is called with the next event again.  The others are
    called with its failure as well, an event without `exchange`.
    Observers are called on the reactor's thread, before the bytes of the step are sent on: they must not
    block.
    """
    made: Any = LogPublisher(*observers, FailureObserver())
    return cast(Publish, made.__call__)


@implementer(ILogObserver)
class FailureObserver:
    """
    The last observer of each publisher: hands the failures of the others to the process's log.

    Of an observer that fails again and again the first, second, fourth, eighth, ... failure is logged: it
    may fail twice in every exchange, and must not fill the log.
    """

    def __init__(self) -> None:
        self._failures = Counter[int]()

    def __call__(self, event: LogEvent) -> None:
        if "exchange" not in event:
            failed = id(event.get("observer"))
            self._failures[failed] += 1
            if self._failures[failed].bit_count() == 1:
                globalLogPublisher(event)


@implementer(ILogObserver)
class CaptureObserver:
    """Writes the records of events; events without records do not concern it."""

    def __init__(self, writer: CaptureWriter) -> None:
        self._write = writer.shortest_write()

    def __call__(self, event: LogEvent) -> None:
        if "records" in event and event["records"]:
            self._write(event["capture"].number, event["records"])


class Recorder:
    """Makes the captures of one proxy; numbers are unique within the session."""

    def __init__(self, writer: CaptureWriter, first: int = 1) -> None:
        """
        The first capture has the number `first`.

        Sessions begin with different numbers, so that a reader never takes the beginning of an exchange in
        one session for the continuation of an exchange whose end was lost in another.
        """
        self._writer = writer
        self._write = writer.shortest_write()
        self._numbers = itertools.count(first)

    @property
    def refuses(self) -> bool:
        """Whether new exchanges must be refused, see `CaptureWriter.refuses`."""
        return self._writer.refuses

    def capture(self) -> Capture:
        return Capture(next(self._numbers), self._writer, self._write)
