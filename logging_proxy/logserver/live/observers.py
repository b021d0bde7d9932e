"""The observers of a logging server: the live view, the counters, retention and the index."""

from __future__ import annotations

from logging_proxy.captures.events import BodyPiece, Event
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Entry, Indexer
from logging_proxy.logserver.live.feed import Feed
from logging_proxy.logserver.live.under_way import UnderWay
from logging_proxy.logserver.retention.rounds import Housekeeping
from logging_proxy.logserver.telemetry.counters import Telemetry


class Observers:
    """
    The one `Observer` of all spools, which tells each part of the server what concerns it.

    `UnderWay` comes first: it filters out what is told again after a replay.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.under_way = UnderWay()
        self.telemetry = Telemetry()
        self.indexer: Indexer | None = None
        self.housekeeping: Housekeeping | None = None

    def event(self, event: Event) -> None:
        """From the storage thread."""
        if type(event) is BodyPiece and not event[0].replayed:
            # Nearly all events are pieces, and most of the time the feed has no viewer.
            if not self.feed.resting:
                self.feed.publish(event)
            return
        for new in self.under_way.observe(event):
            self.telemetry.take(new)
            if not self.feed.resting:
                self.feed.publish(new)

    def stored(self, stored: Stored) -> None:
        """From the storage thread."""
        self.under_way.stored(stored)
        if self.housekeeping is not None:
            self.housekeeping.stored(stored)
        if self.indexer is not None:
            self.indexer.on_stored(stored)

    def indexed(self, entries: list[Entry]) -> None:
        """From the thread that has added `entries` to the index."""
        self.under_way.forget(entry.row.id for entry in entries)
        self.feed.publish_indexed(entries)
