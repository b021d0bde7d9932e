"""
What the logging server asks of the place where captures are kept.

`FileStore` keeps them in a log directory.  Another place needs these two classes and a reader of
captures; the rest of the server does not know where captures are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, Protocol

from logging_proxy.captures.events import Event
from logging_proxy.captures.exchanges import Exchange
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Row

Preview = Callable[[], tuple[dict[str, Any], dict[str, Any] | None]]
"""Makes the metadata of both halves."""


class What(Enum):
    """How much of an exchange is deleted."""

    ALL = auto()
    BYTES = auto()


class CaptureWriter(Protocol):
    """
    Writes the captures of one spool, on the storage thread.

    Any method may raise OSError.  After that the writer is closed, and another one restored from the last
    checkpoint.  All that a writer is given may be given again to the next one: the result is the same.
    """

    @property
    def finished(self) -> int:
        """How many exchanges wait for `commit`."""

    @property
    def dirty(self) -> bool:
        """Whether a power loss may take something that was handled."""

    def handle(self, event: Event) -> None:
        """Takes in one event."""

    def flush(self) -> None:
        """Writes what waits of exchanges under way, so that readers see it."""

    def commit(self) -> list[Stored]:
        """Publishes the exchanges that have ended."""

    def settle(self) -> list[Stored]:
        """Commits, and makes durable all that was handled."""

    def close(self) -> None:
        """Releases everything, and drops what was not committed."""

    def finished_exchanges(self) -> list[Exchange]:
        """The exchanges that wait for `commit`."""

    def preview(self, exchange: Exchange) -> Preview:
        """The metadata so far of an exchange that is not published yet, to be made in any thread."""

    def checkpoint(self) -> list[list[Any]]:
        """What `restore` needs to go on with the open exchanges, in JSON; only right after `settle`."""

    def restore(self, exchanges: dict[int, Exchange], state: Iterable[list[Any]]) -> None:
        """Goes on with `exchanges`, by number.  Raises KeyError, TypeError or ValueError for bad state."""


class CaptureStore(Protocol):
    """
    Where captures are kept.

    Methods are for the storage thread unless they say otherwise; all may raise OSError.
    """

    def open(self) -> None:
        """Makes the store ready; does nothing when it is.  Raises `UnsafeDirectory` or OSError."""

    def check(self) -> None:
        """Raises OSError when the store is no longer where it was opened."""

    def probe(self) -> None:
        """Raises OSError unless something small can be written and made durable now."""

    def close(self) -> None:
        """Releases the store; it may be opened again."""

    def writer(self) -> CaptureWriter:
        """A writer for one spool.  The store must be open before the writer is used."""

    def delete(self, row: Row, what: What) -> int:
        """Deletes an exchange, or its bytes alone; how many bytes that freed.  The store must be open."""

    def has_bytes(self, row: Row) -> bool:
        """Whether there are bytes of an exchange beside its metadata.  In any thread."""

    def measure(self) -> tuple[int, int]:
        """Bytes and number of all files of captures, as far as they can be seen.  In any thread."""
