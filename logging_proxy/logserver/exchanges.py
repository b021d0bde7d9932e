"""
An exchange as the logging server holds it while its records come, and as a checkpoint keeps it.

Times inside an exchange are nanoseconds since its start.
"""

from __future__ import annotations

import base64
import enum
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from logging_proxy.capture.records import RequestHead

MAX_PIECES = 1 << 20
"""Arrival times kept per half: 16 MiB of memory.  A stream of 10 GiB read in 64 KiB has 164,000."""


class Side(enum.StrEnum):
    """Which half of an exchange; the value is the metadata's `stream_type`."""

    REQUEST = "request"
    RESPONSE = "response"


def _no_pieces() -> array[int]:
    return array("Q")


@dataclass(slots=True)
class Half:
    """
    One direction of an exchange.

    `pieces` is flat: offset, nanoseconds, offset, nanoseconds, ...
    `completed` is None until the half's end came as its framing says.
    """

    head: bytes
    started: int = 0
    ours: bool = False
    completed: int | None = None
    last: int = 0
    size: int = 0
    pieces: array[int] = field(default_factory=_no_pieces)
    omitted: int = 0
    trailers: bytes = b""
    tunnel_from: int | None = None

    def add(self, size: int, time: int) -> None:
        """`size` more bytes came at `time`."""
        if len(self.pieces) < 2 * MAX_PIECES:
            self.pieces.append(self.size)
            self.pieces.append(time)
        else:
            self.omitted += 1
        self.size += size
        self.last = time


def exchange_id(id: bytes) -> str:
    """The UUID's text."""
    text = id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(slots=True, eq=False)
class Exchange:
    """One exchange as far as its records have come; `outcome` is empty while it is open."""

    number: int
    opening: RequestHead
    began: int
    request: Half
    response: Half | None = None
    informational: list[tuple[int, bytes]] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)
    elapsed: int = 0
    outcome: str = ""
    error: str = ""
    damage: str = ""
    id: str = field(init=False)
    """The UUID's text."""
    route: str = field(init=False)
    """Empty for what no route took."""

    def __post_init__(self) -> None:
        self.id = exchange_id(self.opening.id)
        self.route = self.opening.route.decode("utf-8", "replace")

    def half(self, side: Side) -> Half | None:
        return self.request if side is Side.REQUEST else self.response

    def mark_damaged(self, reason: str) -> None:
        """Bytes may be missing: whatever END says, this exchange is not complete."""
        self.damage = self.damage or reason


def verdict(exchange: Exchange) -> tuple[str, str]:
    """The final outcome and error text: one that may have lost bytes is not complete."""
    if exchange.damage and exchange.outcome == "complete":
        return "interrupted", f"the capture is not whole: {exchange.damage}"
    return exchange.outcome, exchange.error


# --- exchanges as JSON-able values -------------------------------------------
# Bytes become latin-1 text, arrival times base64: a long stream has 100,000.


def _half_state(half: Half) -> dict[str, Any]:
    return {
        "head": half.head.decode("latin-1"),
        "started": half.started,
        "ours": half.ours,
        "completed": half.completed,
        "last": half.last,
        "size": half.size,
        "pieces": base64.b64encode(half.pieces.tobytes()).decode("ascii"),
        "omitted": half.omitted,
        "trailers": half.trailers.decode("latin-1"),
        "tunnel_from": half.tunnel_from,
    }


def _restore_half(state: dict[str, Any]) -> Half:
    pieces = _no_pieces()
    pieces.frombytes(base64.b64decode(state["pieces"]))
    texts = {name: state[name].encode("latin-1") for name in ("head", "trailers")}
    return Half(**{**state, **texts, "pieces": pieces})


_OPENING = ("client", "route", "pattern", "source_url", "destination_url")


def exchange_state(exchange: Exchange) -> dict[str, Any]:
    """An open exchange, for `restore_exchange`."""
    opening = exchange.opening
    return {
        "number": exchange.number,
        "id": opening.id.hex(),
        "wall_ns": opening.wall_ns,
        "opening": [getattr(opening, name).decode("latin-1") for name in _OPENING],
        "began": exchange.began,
        "request": _half_state(exchange.request),
        "response": _half_state(exchange.response) if exchange.response else None,
        "informational": [[time, head.decode("latin-1")] for time, head in exchange.informational],
        "notes": exchange.notes,
        "elapsed": exchange.elapsed,
        "damage": exchange.damage,
    }


def restore_exchange(state: dict[str, Any]) -> Exchange:
    """The inverse of `exchange_state`.  Raises KeyError, TypeError or ValueError for other values."""
    request = _restore_half(state["request"])
    client, route, pattern, source_url, destination_url = (
        text.encode("latin-1") for text in state["opening"]
    )
    opening = RequestHead(
        bytes.fromhex(state["id"]),
        state["wall_ns"],
        client,
        route,
        pattern,
        source_url,
        destination_url,
        request.head,
    )
    return Exchange(
        state["number"],
        opening,
        state["began"],
        request,
        _restore_half(state["response"]) if state["response"] else None,
        [(time, head.encode("latin-1")) for time, head in state["informational"]],
        state["notes"],
        state["elapsed"],
        damage=state["damage"],
    )


def piece_pairs(half: Half) -> Iterator[list[int]]:
    """`[offset, microseconds since the exchange's start]` of each piece."""
    times = iter(half.pieces)
    for offset in times:
        yield [offset, next(times) // 1000]
