"""The interface by which ingest reports what happens to exchanges."""

from __future__ import annotations

from typing import Protocol

from logging_proxy.captures.events import Event
from logging_proxy.captures.stored import Stored


class Observer(Protocol):
    """
    Receives every event and every stored exchange, in order, on the storage thread.

    After a crash everything since the last checkpoint is reported again.  An observer must not block for
    long, and must not raise: an exception restarts the spool's consumer from its last checkpoint.
    """

    def event(self, event: Event) -> None:
        """An event of an exchange, after the store has handled it."""

    def stored(self, stored: Stored) -> None:
        """An exchange whose files are complete and have their names."""
