"""
The live feed: what happens, as numbered events in a bounded ring.

The storage thread publishes; viewers, on the reactor's thread, read the ring
each from a place of its own.  A viewer that comes back goes on where it was, if
the ring still has it; one that is slow holds nothing but its place.

While nobody has watched for a while nothing is kept and nothing is spent.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from logging_proxy.captures.events import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.captures.exchanges import Side
from logging_proxy.index import Entry, Row
from logging_proxy.logserver.live.under_way import snapshot

RING_BYTES = 16 << 20
"""While somebody watches the events' texts take a third more besides."""

RING_EVENTS = 65_536

EVENT_SIZE = 512
"""What an event weighs besides its bytes, about."""

PIECES_UNTIL = 4 << 20
"""Bytes of a half that are sent along; of those beyond only offset and size are told.  No stream has more."""

KEPT_WITHOUT_VIEWERS = 300.0
"""Seconds: who was away for longer looks at the list again."""


@dataclass(slots=True)
class LiveEvent:
    """
    Something that happened to exchange `id`; which of the other fields there are depends on `type`.

    Never changed once it is made.
    """

    sequence: int
    type: str
    id: str
    row: Row | None = None
    side: Side | None = None
    offset: int = 0
    size: int = 0
    time: int = 0
    """Nanoseconds since the exchange's start."""
    data: bytes | None = None
    _text: str = field(default="", repr=False, compare=False)

    @property
    def weight(self) -> int:
        return EVENT_SIZE + len(self.data or b"")

    def text(self) -> str:
        """The event as JSON, made once for all viewers."""
        self._text = self._text or self._made()
        return self._text

    def _made(self) -> str:
        value: dict[str, Any] = {"sequence": self.sequence, "type": self.type, "id": self.id}
        if self.row is not None:
            value["exchange"] = row_document(self.row)
        if self.side is not None:
            value |= {"side": self.side.value, "offset": self.offset, "size": self.size}
            value["time"] = self.time // 1000
            value["data"] = None if self.data is None else base64.b64encode(self.data).decode("ascii")
        return json.dumps(value)


def row_document(row: Row) -> dict[str, Any]:
    """A row as JSON; of what is under way, outcome and end are null."""
    document = row.document()
    if not row.outcome:
        document["outcome"] = document["completed_at"] = None
    return document


class Ring:
    """The last events, up to a number and a weight.  Not thread-safe."""

    def __init__(self, first: int, most: int = RING_EVENTS, most_bytes: int = RING_BYTES) -> None:
        self.first = first
        """The sequence of the oldest event; of the next one, when the ring is empty."""
        self._most = most
        self._most_bytes = most_bytes
        self._weight = 0
        self._events: deque[LiveEvent] = deque()

    @property
    def next(self) -> int:
        """The sequence that the next event gets."""
        return self.first + len(self._events)

    def append(self, event: LiveEvent) -> None:
        self._events.append(event)
        self._weight += event.weight
        while len(self._events) > self._most or (self._weight > self._most_bytes and len(self._events) > 1):
            self._weight -= self._events.popleft().weight
            self.first += 1

    def clear(self) -> None:
        self.first = self.next
        self._events.clear()
        self._weight = 0

    def read(self, sequence: int, most: int) -> list[LiveEvent]:
        """Up to `most` events from `sequence` on, which must not be before `first`."""
        start = sequence - self.first
        # Viewers are mostly at the end, and a deque is reached from both.
        if start >= len(self._events):
            return []
        if start < 64:
            return list(islice(self._events, start, start + most))
        return [self._events[at] for at in range(start, min(start + most, len(self._events)))]


class Feed:
    """
    Numbers events and hands them out.

    `wake` is called, in the publishing thread, when a viewer may have
    something to read; once until the next `read`.  `first` should grow from one start to
    the next, so that no sequence means two things.
    """

    def __init__(self, seconds: Callable[[], float], first: int, ring: Ring | None = None) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ring = ring or Ring(first)
        self._viewers = 0
        self._keep_until = 0.0
        self._woken = False
        self.resting = False
        """Nobody watches, and nothing need be published until somebody enters."""

    # --- publishing

    @property
    def wanted(self) -> bool:
        """Whether anybody watches, or did a moment ago."""
        return self._viewers > 0 or self._seconds() < self._keep_until

    def publish(self, event: Event) -> None:
        """Something new happened."""
        if not self.wanted:
            self._rest()
            return
        id = event.exchange.id
        if isinstance(event, BodyPiece):
            data = bytes(event.data) if event.offset + len(event.data) <= PIECES_UNTIL else None
            self._append(
                "piece",
                id,
                side=event.side,
                offset=event.offset,
                size=len(event.data),
                time=event.time,
                data=data,
            )
        elif type(event) in _TYPES:
            self._append(_TYPES[type(event)], id, row=snapshot(event.exchange))

    def publish_indexed(self, entries: list[Entry]) -> None:
        """Exchanges are in the index: what was understood of them is known."""
        if self.wanted:
            for entry in entries:
                self._append("indexed", entry.row.id, row=entry.row)

    def _append(self, type: str, id: str, **fields: Any) -> None:
        with self._lock:
            self._ring.append(LiveEvent(self._ring.next, type, id, **fields))
            woken, self._woken = self._woken, True
        if not woken:
            self.wake()

    def _rest(self) -> None:
        """Nobody sees what comes now: places from before are gone; none is given until somebody enters."""
        with self._lock:
            if self._ring.next > self._ring.first:
                self._ring.clear()
            self._ring.first += 1
            self.resting = self._viewers == 0

    # --- viewing

    def enter(self) -> tuple[int, int]:
        """A viewer comes; the oldest and the next sequence."""
        with self._lock:
            self._viewers += 1
            self.resting = False
            return self._ring.first, self._ring.next

    def leave(self) -> None:
        with self._lock:
            self._viewers -= 1
            self._keep_until = self._seconds() + KEPT_WITHOUT_VIEWERS

    @property
    def viewers(self) -> int:
        return self._viewers

    def read(self, sequence: int, most: int) -> list[LiveEvent] | None:
        """Events from `sequence` on; None when that place is gone."""
        with self._lock:
            self._woken = False
            return None if sequence < self._ring.first else self._ring.read(sequence, most)


_TYPES: dict[type, str] = {Started: "start", ResponseStarted: "response", Ended: "end"}
