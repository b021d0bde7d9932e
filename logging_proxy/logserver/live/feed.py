"""
The live feed: numbered events in a bounded ring.

The storage thread publishes events; viewers, on the reactor thread, read the ring, each from its own sequence
number.  A viewer that reconnects resumes there if the ring still has the event; a slow viewer costs no memory
here.

After some minutes without viewers, no events are kept or made.
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
"""Most bytes of pieces in the ring; while there are viewers, the JSON texts take another third."""

RING_EVENTS = 65_536

EVENT_SIZE = 512
"""Approximate memory of an event besides its bytes."""

PIECES_UNTIL = 4 << 20
"""Pieces up to this offset in a body have their bytes in the feed; later ones only offset and size."""

KEPT_WITHOUT_VIEWERS = 300.0
"""Seconds for which events are kept for a viewer that reconnects."""


@dataclass(slots=True)
class LiveEvent:
    """
    An event of exchange `id`; its `type` determines which of the other fields are set.

    Immutable, but for the cached text.
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
        """The event as JSON, encoded once for all viewers."""
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
    """A row as JSON; outcome and end of an exchange under way are null."""
    document = row.document()
    if not row.outcome:
        document["outcome"] = document["completed_at"] = None
    return document


class Ring:
    """The latest events, limited by number and by weight.  Not thread-safe."""

    def __init__(self, first: int, most: int = RING_EVENTS, most_bytes: int = RING_BYTES) -> None:
        self.first = first
        """The sequence of the oldest event; of the next one, when the ring is empty."""
        self._most = most
        self._most_bytes = most_bytes
        self._weight = 0
        self._events: deque[LiveEvent] = deque()

    @property
    def next(self) -> int:
        """The sequence of the next event."""
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
        # Most reads are near the end; indexing a deque is fast near both ends.
        if start >= len(self._events):
            return []
        if start < 64:
            return list(islice(self._events, start, start + most))
        return [self._events[at] for at in range(start, min(start + most, len(self._events)))]


class Feed:
    """
    Numbers events and keeps them for viewers.

    `wake` is called in the publishing thread when there are new events, once until the next `read`.  `first`
    must grow from one start of the server to the next, so that a sequence is never used twice.
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
        """Whether there are no viewers, and `publish` need not be called until one enters."""

    # --- publishing

    @property
    def wanted(self) -> bool:
        """Whether there are viewers, or were in the last `KEPT_WITHOUT_VIEWERS` seconds."""
        return self._viewers > 0 or self._seconds() < self._keep_until

    def publish(self, event: Event) -> None:
        """Adds an event of an exchange, if the feed is wanted."""
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
        """Announces exchanges that are in the index, with their final rows."""
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
        """Drops the ring, and skips one sequence: a viewer that resumes from before is told of a gap."""
        with self._lock:
            if self._ring.next > self._ring.first:
                self._ring.clear()
            self._ring.first += 1
            self.resting = self._viewers == 0

    # --- viewing

    def enter(self) -> tuple[int, int]:
        """Adds a viewer; the oldest and the next sequence."""
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
        """At most `most` events from `sequence` on; None when the ring no longer has them."""
        with self._lock:
            self._woken = False
            return None if sequence < self._ring.first else self._ring.read(sequence, most)


_TYPES: dict[type, str] = {Started: "start", ResponseStarted: "response", Ended: "end"}
