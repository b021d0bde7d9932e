"""Who is told what happens to exchanges while their records are read."""

from __future__ import annotations

from typing import Protocol

from logging_proxy.captures.events import Event
from logging_proxy.captures.stored import Stored


class Observer(Protocol):
    """
    Told of every event and of every exchange that is stored, in their order, on the storage thread.

    After a crash what was not in the last checkpoint is told again.  An observer must not block for long,
    and must not raise: the spool would be read again from its checkpoint.
    """

    def event(self, event: Event) -> None:
        """Something happened to an exchange.  It has been handed to the store already."""

    def stored(self, stored: Stored) -> None:
        """The files of an exchange are there."""


class Unobserved:
    """The observer of a consumer that only stores."""

    def event(self, event: Event) -> None: ...

    def stored(self, stored: Stored) -> None: ...
