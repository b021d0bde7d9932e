"""
An exchange in the logging server's memory while its records arrive, and its form in a checkpoint.

Times inside an exchange are nanoseconds since its start.
"""

from __future__ import annotations

import base64
import enum
import struct
from array import array
from json.encoder import encode_basestring_ascii
from typing import Any

from logging_proxy.captures.heads import KNOWN_HEADS, LONGEST_KNOWN, Head, known_head
from logging_proxy.recording.records import RequestHead, decode_request_head

LONGEST_METHOD = 256
"""Characters of a method in metadata and index, as of a model; the `.bin` has all of it."""

FEW_TIMES = 64
"""Entries of `pieces` up to which an exchange that is stored keeps them: freeing them gains nothing."""

MAX_PIECES = 1 << 20
"""Arrival times kept per half: 16 MiB of memory.  A stream of 10 GiB read in 64 KiB has 164,000."""


class Side(enum.StrEnum):
    """Which half of an exchange; the value is the metadata's `stream_type`."""

    REQUEST = "request"
    RESPONSE = "response"


_REQUEST = Side.REQUEST
"""A module constant, because access to an enum member costs as much as a function call."""


class Half:
    """
    One direction of an exchange.

    `pieces` is flat: offset, nanoseconds, offset, nanoseconds, ...
    `completed` is None until the end of the half, according to its framing, was received.
    """

    __slots__ = (
        "completed",
        "file",
        "head",
        "last",
        "omitted",
        "ours",
        "pieces",
        "refused_from",
        "size",
        "started",
        "trailers",
        "tunnel_from",
    )

    def __init__(
        self,
        head: bytes,
        started: int = 0,
        ours: bool = False,
        completed: int | None = None,
        last: int = 0,
        size: int = 0,
        pieces: array[int] | None = None,
        omitted: int = 0,
        trailers: bytes = b"",
        tunnel_from: int | None = None,
        refused_from: int | None = None,
    ) -> None:
        self.head = head
        self.started = started
        self.ours = ours
        self.completed = completed
        self.last = last
        self.size = size
        self.pieces: array[int] = array("Q") if pieces is None else pieces
        self.omitted = omitted
        self.trailers = trailers
        self.tunnel_from = tunnel_from
        self.refused_from = refused_from
        """Offset of the first byte that was not forwarded; the bytes before it are the body."""
        self.file: object | None = None
        """A slot for the store, which keeps its own state of this half there."""

    def add(self, size: int, time: int) -> None:
        """Counts `size` more bytes, received at `time`."""
        pieces = self.pieces
        if len(pieces) < 2 * MAX_PIECES:
            pieces.append(self.size)
            pieces.append(time)
        else:
            self.omitted += 1
        self.size += size
        self.last = time

    @property
    def body_size(self) -> int:
        """Bytes of the body, without those that were not forwarded."""
        return self.size if self.refused_from is None else self.refused_from

    def forget_times(self) -> None:
        """Frees the arrival times once they are in the metadata: for a long stream they take megabytes."""
        self.file = None
        if len(self.pieces) > FEW_TIMES:
            self.pieces = array("Q")


class Opening:
    """
    What exchanges with the same request head and route share: fields, parsed head, and encoded JSON.

    `route`, `pattern` and `destination_url` are empty for a request that matched no route.
    """

    __slots__ = (
        "destination_url",
        "head",
        "json",
        "method",
        "parsed",
        "pattern",
        "prefix",
        "derived",
        "route",
        "route_name",
        "source_url",
    )

    def __init__(
        self, route: bytes, pattern: bytes, source_url: bytes, destination_url: bytes, head: bytes
    ) -> None:
        self.route = route
        self.pattern = pattern
        self.source_url = source_url
        self.destination_url = destination_url
        self.head = head
        self.route_name = route.decode("utf-8", "replace")
        self.parsed: Head = known_head(head)
        self.method = self.parsed.first[:LONGEST_METHOD]
        self.prefix = b"%bX-Proxy-Path: %b\r\n\r\n" % (head, source_url)
        """The bytes before the body in the request's `.bin`."""
        self.json = _common_json(self)
        """The members of the metadata from `route` to `destination_url`."""
        self.derived: object | None = None
        """A slot for the index: what it has derived from this."""


def _common_json(opening: Opening) -> str:
    values = (
        ("route", opening.route_name or None),
        ("pattern", opening.pattern.decode("utf-8", "replace") or None),
        ("method", opening.method),
        ("source_url", opening.source_url.decode("latin-1")),
        ("destination_url", opening.destination_url.decode("latin-1") or None),
    )
    return ",".join(
        f'"{name}":{"null" if value is None else encode_basestring_ascii(value)}' for name, value in values
    )


class Exchange:
    """One exchange, with what its records have told so far; `outcome` is empty while it is open."""

    __slots__ = (
        "replayed",
        "began",
        "client",
        "damage",
        "elapsed",
        "error",
        "id",
        "informational",
        "notes",
        "number",
        "opening",
        "outcome",
        "request",
        "response",
        "run",
        "uuid",
        "wall_ns",
    )

    def __init__(
        self,
        number: int,
        uuid: bytes,
        wall_ns: int,
        client: bytes,
        opening: Opening,
        began: int,
        request: Half,
        response: Half | None = None,
    ) -> None:
        self.number = number
        self.uuid = uuid
        self.wall_ns = wall_ns
        self.client = client
        """`address port`"""
        self.opening = opening
        self.began = began
        self.request = request
        self.response = response
        self.informational: list[tuple[int, bytes]] = []
        self.notes: list[Any] = []
        self.elapsed = 0
        self.outcome = self.error = self.damage = ""
        self.run = ""
        """The name of the run that it belongs to; empty for most."""
        self.replayed = False
        """Whether this process has read the exchange from the spool before: this is a replay."""
        text = uuid.hex()
        self.id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        """The UUID's text."""

    @property
    def route(self) -> str:
        """Empty for a request that matched no route."""
        return self.opening.route_name

    def half(self, side: Side) -> Half | None:
        return self.request if side is _REQUEST else self.response

    def mark_damaged(self, reason: str) -> None:
        """Records that bytes may be missing: whatever the END record says, the exchange is not complete."""
        self.damage = self.damage or reason

    def reduce(self, reason: str) -> None:
        """Drops the values that cannot be encoded as JSON; bytes, times and heads stay."""
        self.mark_damaged(reason)
        self.client, self.informational, self.notes = b"", [], [{"damage": reason}]


def verdict(exchange: Exchange) -> tuple[str, str]:
    """The final outcome and error text; an exchange that may have lost bytes is not complete."""
    if exchange.damage and exchange.outcome == "complete":
        return "interrupted", f"the capture is not whole: {exchange.damage}"
    return exchange.outcome, exchange.error


# --- from the record that opens it -----------------------------------------------

_BEFORE_CLIENT = struct.Struct("<16sQH")
"""The first fields of a REQUEST_HEAD payload: id, wall clock, length of the client's address."""

_openings: dict[bytes, Opening] = {}


def open_exchange(number: int, payload: bytes, time: int) -> Exchange:
    """
    The exchange that a REQUEST_HEAD opens.  Raises `SpoolDamage`.

    Exchanges with equal heads share one `Opening`, so that a head is parsed once.
    """
    if len(payload) < _BEFORE_CLIENT.size:
        decode_request_head(payload)
    uuid, wall_ns, length = _BEFORE_CLIENT.unpack_from(payload)
    behind = _BEFORE_CLIENT.size + length
    client, rest = payload[_BEFORE_CLIENT.size : behind], payload[behind:]
    opening = _openings.get(rest)
    if opening is None:
        opening = opening_of(decode_request_head(payload))
        if len(rest) <= LONGEST_KNOWN:
            if len(_openings) >= KNOWN_HEADS:
                _openings.clear()
            _openings[rest] = opening
    return Exchange(number, uuid, wall_ns, client, opening, time, Half(opening.head))


def opening_of(head: RequestHead) -> Opening:
    return Opening(head.route, head.pattern, head.source_url, head.destination_url, head.head)


# --- exchanges as JSON-able values -------------------------------------------
# Bytes become latin-1 text; arrival times become base64, for a long stream has very many.


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
        "refused_from": half.refused_from,
    }


def _restore_half(state: dict[str, Any]) -> Half:
    pieces: array[int] = array("Q")
    pieces.frombytes(base64.b64decode(state["pieces"]))
    texts = {name: state[name].encode("latin-1") for name in ("head", "trailers")}
    return Half(**{**state, **texts, "pieces": pieces})


_OPENING = ("route", "pattern", "source_url", "destination_url")


def exchange_state(exchange: Exchange) -> dict[str, Any]:
    """An open exchange, for `restore_exchange`."""
    opening = [exchange.client, *(getattr(exchange.opening, name) for name in _OPENING)]
    return {
        "number": exchange.number,
        "id": exchange.uuid.hex(),
        "wall_ns": exchange.wall_ns,
        "opening": [text.decode("latin-1") for text in opening],
        "began": exchange.began,
        "request": _half_state(exchange.request),
        "response": _half_state(exchange.response) if exchange.response else None,
        "informational": [[time, head.decode("latin-1")] for time, head in exchange.informational],
        "notes": exchange.notes,
        "elapsed": exchange.elapsed,
        "damage": exchange.damage,
        "run": exchange.run,
    }


def restore_exchange(state: dict[str, Any]) -> Exchange:
    """The inverse of `exchange_state`.  Raises KeyError, TypeError or ValueError for other values."""
    request = _restore_half(state["request"])
    client, route, pattern, source_url, destination_url = (
        text.encode("latin-1") for text in state["opening"]
    )
    exchange = Exchange(
        state["number"],
        bytes.fromhex(state["id"]),
        state["wall_ns"],
        client,
        Opening(route, pattern, source_url, destination_url, request.head),
        state["began"],
        request,
        _restore_half(state["response"]) if state["response"] else None,
    )
    exchange.informational = [(time, head.encode("latin-1")) for time, head in state["informational"]]
    exchange.notes, exchange.elapsed, exchange.damage = state["notes"], state["elapsed"], state["damage"]
    exchange.run = str(state.get("run", ""))
    return exchange


def snapshot(exchange: Exchange) -> Exchange:
    """A copy for another thread, while this thread continues to change the exchange."""
    made = restore_exchange(exchange_state(exchange))
    made.notes = exchange.notes[:]
    made.outcome, made.error, made.replayed = exchange.outcome, exchange.error, exchange.replayed
    return made
