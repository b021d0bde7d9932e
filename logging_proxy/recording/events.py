"""
What an exchange publishes, and the observer that hands it to the writer.

The events are those of twisted.logger: dicts that observers are called with.
The data path calls its observer directly rather than through a publisher,
which would cost more (0.7 µs an event) than everything else that recording does.  What
is usual of a body goes past the observer, straight to the writer, where there is a part in C.
"""

from __future__ import annotations

import itertools

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from logging_proxy.recording.writer import CaptureWriter, Passed


@implementer(ILogObserver)
class CaptureObserver:
    """Writes the records in events that have any; other events are not its business."""

    def __init__(self, writer: CaptureWriter) -> None:
        self.writer = writer
        self._write = writer.shortest_write()

    def __call__(self, event: LogEvent) -> None:
        records: Passed | None = event.get("records")
        if records is not None:
            self._write(event["exchange"], records)


class Capture:
    """What one exchange publishes, until its END record."""

    __slots__ = ("_observer", "number", "writer")

    def __init__(self, number: int, observer: CaptureObserver) -> None:
        self.number = number
        self.writer = observer.writer
        self._observer = observer

    def passed(self, *records: tuple[int, int, bytes]) -> None:
        """These records, in order.  Afterwards `full` tells whether their bytes may be passed on."""
        self._observer({"exchange": self.number, "records": records})

    def landing(self, most: int) -> memoryview | None:
        """Memory to read the next piece of a body into, see `CaptureWriter.landing`."""
        return self.writer.landing(most)

    @property
    def full(self) -> bool:
        return self.writer.full

    def when_room(self) -> Deferred[None]:
        return self.writer.when_room()


class Recorder:
    """Makes the captures of one proxy; numbers are unique within the session."""

    def __init__(self, observer: CaptureObserver, first: int = 1) -> None:
        """
        The first capture has the number `first`.

        Where each session begins with another, what a reader has of an exchange whose end is lost, with the
        beginning of the next session, does not go on with an exchange of that one.
        """
        self._observer = observer
        self._numbers = itertools.count(first)

    @property
    def refuses(self) -> bool:
        return self._observer.writer.refuses

    def capture(self) -> Capture:
        return Capture(next(self._numbers), self._observer)
