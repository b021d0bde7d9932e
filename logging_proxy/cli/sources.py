"""
The interface through which the commands read captures, whatever their source.

Documents are JSON objects as returned by the API: an exchange as listed, and the
metadata of its halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from logging_proxy.index.values import SHORTEST_PREFIX, is_id_prefix
from logging_proxy.service.console import safe

Document = dict[str, Any]
Side = Literal["request", "response"]
SIDES: tuple[Side, Side] = ("request", "response")


class Trouble(Exception):
    """A command cannot be carried out; the text gives the reason in one line."""


class Misused(Trouble):
    """An argument makes no sense."""


class NoServer(Trouble):
    """The server cannot be reached, or is not a logging server."""


class Refusal(Trouble):
    """The server answered, but refused the request."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as listed, with the metadata of its stored halves."""

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
    """A search result; `text` is the text around the match, in the body of `side`."""

    row: Document
    side: Side | None = None
    text: str = ""


class Source(Protocol):
    """Captures.  Every method may raise `Trouble`; filters are the API's, as text."""

    @property
    def name(self) -> str:
        """The location of the captures, for messages."""

    def list(self, filters: Mapping[str, str]) -> Iterator[Document]:
        """Exchanges, newest first, read lazily."""

    def get(self, id: str) -> Exchange:
        """The exchange with this id, which may be abbreviated if that is unambiguous."""

    def body(self, exchange: Exchange, side: Side) -> Iterator[bytes]:
        """The content of a half's `.bin` in pieces; nothing if there is no such half."""

    def search(self, text: str, filters: Mapping[str, str]) -> Iterator[Found]:
        """Exchanges whose bodies contain `text`, newest first."""

    def live(self) -> Iterator[Document | None]:
        """
        Events of the live feed as they happen, without end.

        Yields None now and then while there are no events, so that the caller can do other work.
        """


def checked_prefix(id: str) -> str:
    """Normalize an id or prefix that the user typed or copied.  Raises `Misused` if it is not one."""
    prefix = id.strip().strip("[]").lower()
    if not is_id_prefix(prefix):
        raise Misused(f"{safe(repr(id), 100)} is not an id; ids consist of hex digits, such as 092d0424")
    if len(prefix) < SHORTEST_PREFIX:
        raise Misused(f"{prefix}: at least {SHORTEST_PREFIX} digits of an id are needed")
    return prefix


def no_such(prefix: str, where: str) -> Trouble:
    return Trouble(f"{prefix}: no such exchange in {where}")


def ambiguous(prefix: str, ids: list[str]) -> Trouble:
    return Trouble(f"{prefix}: more than one exchange has this prefix: {', '.join(sorted(ids)[:5])}")
