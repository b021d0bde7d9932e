"""
What the commands ask for captures: one interface, whatever stands behind it.

Documents are JSON objects as the API gives them: an exchange as it is listed,
and the metadata of its halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Document = dict[str, Any]
Side = Literal["request", "response"]
SIDES: tuple[Side, Side] = ("request", "response")

SHORTEST_PREFIX = 4
"""Hex digits of an id that may stand for all of it."""


class Trouble(Exception):
    """What the user wants cannot be done; the text is the one line that says why."""


class NoServer(Trouble):
    """Nobody listens there, or not a logging server."""


class Refusal(Trouble):
    """The server answers, but does not give what was asked for."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: as it is listed, and the metadata of the halves that are stored."""

    row: Document
    request: Document | None = None
    response: Document | None = None

    @property
    def id(self) -> str:
        return str(self.row["id"])

    def half(self, side: Side) -> Document | None:
        return self.request if side == "request" else self.response


@dataclass(frozen=True, slots=True)
class Found:
    """An exchange that a search found; `text` is what is around the words, in the body of `side`."""

    row: Document
    side: Side | None = None
    text: str = ""


class Source(Protocol):
    """Captures.  Everything may raise `Trouble`; filters are those of the API, as text."""

    @property
    def name(self) -> str:
        """Where the captures are, for a person."""

    def list(self, filters: Mapping[str, str]) -> Iterator[Document]:
        """Exchanges, newest first, read as far as the caller goes on."""

    def get(self, id: str) -> Exchange:
        """The exchange with this id, or with the only one that begins so."""

    def body(self, exchange: Exchange, side: Side) -> Iterator[bytes]:
        """The bytes of a half's `.bin`, head and body, in pieces; none when there is no such half."""

    def search(self, text: str, filters: Mapping[str, str]) -> Iterator[Found]:
        """Exchanges whose bodies hold `text`, newest first."""

    def live(self) -> Iterator[Document | None]:
        """
        Events of the live feed as they happen, without end.

        None every so often while nothing happens, so that the caller can do something else.
        """


def checked_prefix(id: str) -> str:
    """An id or the beginning of one, as the user typed or copied it.  Raises `Trouble`."""
    prefix = id.strip().strip("[]").lower()
    if not prefix or set(prefix) - set("0123456789abcdef-"):
        raise Trouble(f"{id!r} is not an id: those are hex digits, such as 092d0424")
    if len(prefix) < SHORTEST_PREFIX:
        raise Trouble(f"{prefix}: at least {SHORTEST_PREFIX} digits of an id are needed")
    return prefix


def no_such(prefix: str, where: str) -> Trouble:
    return Trouble(f"{prefix}: no such exchange in {where}")


def ambiguous(prefix: str, ids: list[str]) -> Trouble:
    return Trouble(f"{prefix}: more than one exchange begins so: {', '.join(sorted(ids)[:5])}")
