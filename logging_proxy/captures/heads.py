"""
Recorded heads of messages: parsed, and encoded as JSON.

Header values are latin-1 text, so every byte survives in JSON.  This parser accepts everything that was
recorded; the strict parser is the proxy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

Headers = list[tuple[str, str]]

SESSION_HEADERS = frozenset(
    [
        "conversation_id",
        "helicone-session-id",
        "mcp-session-id",
        "session-id",
        "session_id",
        "thread-id",
        "x-claude-code-session-id",
        "x-client-request-id",
        "x-conversation-id",
        "x-dynamo-session-id",
        "x-litellm-session-id",
        "x-litellm-trace-id",
        "x-opencode-session",
        "x-openwebui-chat-id",
        "x-session-affinity",
        "x-session-id",
    ]
)
"""Headers that may identify a client's session; `understanding.facts` has the order of their trust."""

_CLIENT_HEADERS = frozenset(["originator", "user-agent", "x-codex-turn-metadata"])
"""Headers by which a client program is recognised."""

_LISTS = frozenset(["content-type", "content-encoding"])
_FRAMING = frozenset(["transfer-encoding", "content-length", "upgrade", "sec-websocket-extensions"])
_RELEVANT = SESSION_HEADERS | _CLIENT_HEADERS | _LISTS | _FRAMING
"""Headers that the logging server evaluates."""

KNOWN_HEADS = 512
"""Parsed heads in the cache; a client with a persistent connection sends few different ones."""

LONGEST_KNOWN = 4096
LONGEST_KNOWN_LINE = 256

LONGEST_JOINED = 4096
"""Characters of a list that was joined from several headers; the next header then starts a new list."""


class Head(NamedTuple):
    """The three parts of a start line, and the header lines in their order and spelling."""

    first: str
    second: str
    third: str
    headers: Headers
    json: str = "[]"
    """The headers as JSON."""
    relevant: dict[str, str] = {}  # noqa: RUF012
    """
    Values of the few evaluated headers, by lower-case name.

    Repeated headers that are lists are joined (RFC 9110 §5.2); of all others the last one counts.
    """
    framing: str = ""
    """The body's framing according to the headers: `chunked`, `content-length`, `close`, or empty."""
    status: int | None = None
    """The status of a response; None for a request."""


class _Field(NamedTuple):
    pair: tuple[str, str]
    json: str
    relevant: str
    """The lower-case name of an evaluated header; empty for any other."""


def parse_head(head: bytes) -> Head:
    """
    A head with or without its blank line.

    Accepts any bytes: a line without a colon is a name without a value.
    """
    start, *lines = head.decode("latin-1").split("\r\n")
    parts = start.split(" ", 2)
    first, second, third = parts if len(parts) == 3 else [*parts, "", ""][:3]
    fields = [
        _field(line) if len(line) <= LONGEST_KNOWN_LINE else _parse_field(line) for line in lines if line
    ]
    relevant, framing = _tell([(name, pair[1]) for pair, _, name in fields if name])
    status = int(second) if len(second) == 3 and second.isdecimal() else None
    json = f"[{','.join([field.json for field in fields])}]"
    return Head(first, second, third, [field.pair for field in fields], json, relevant, framing, status)


def relevant_headers(headers: Iterable[Sequence[str]]) -> dict[str, str]:
    """The `relevant` of a head with these headers."""
    return _tell([(lower, value) for name, value in headers if (lower := name.lower()) in _RELEVANT])[0]


def _tell(fields: list[tuple[str, str]]) -> tuple[dict[str, str], str]:
    relevant: dict[str, str] = {}
    framing = ""
    for name, value in fields:
        # The length is bounded, because joining thousands of equal names takes quadratic time.
        joins = name in _LISTS and name in relevant and len(relevant[name]) < LONGEST_JOINED
        relevant[name] = f"{relevant[name]}, {value}" if joins else value
        framing = _framing(framing, name, value)
    return relevant, framing


def parse_fields(lines: list[str]) -> Headers:
    """The header lines among `lines`, which may be empty ones."""
    return [_parse_field(line).pair for line in lines if line]


def _parse_field(line: str) -> _Field:
    name, _, value = line.partition(":")
    value = value.strip(" \t")
    lower = name.lower()
    json = f"[{encode_basestring_ascii(name)},{encode_basestring_ascii(value)}]"
    return _Field((name, value), json, lower if lower in _RELEVANT else "")


_field = lru_cache(maxsize=4096)(_parse_field)
"""A cache of lines: most lines of two heads are equal."""

_known: dict[bytes, Head] = {}


def known_head(raw: bytes) -> Head:
    """The same as `parse_head`, from a cache if an equal head was parsed lately."""
    head = _known.get(raw)
    if head is None:
        head = parse_head(raw)
        if len(raw) <= LONGEST_KNOWN:
            if len(_known) >= KNOWN_HEADS:
                _known.clear()
            _known[raw] = head
    return head


def status_class(status: int) -> int:
    """2 for 2xx, and so on; a status beyond all classes counts as 5xx (RFC 9110 §15)."""
    return min(status // 100, 5)


# --- framing ----------------------------------------------------------------------


def _framing(before: str, name: str, value: str) -> str:
    """The framing after one more header; the first Transfer-Encoding decides (RFC 9112 §6.3)."""
    if before in ("chunked", "close"):
        return before
    if name == "transfer-encoding":
        return "chunked" if value.lower().endswith("chunked") else "close"
    return "content-length" if name == "content-length" else before


def framing_of_request(head: Head) -> str:
    """How the request's body was delimited (RFC 9112 §6)."""
    return head.framing if head.framing in ("chunked", "content-length") else "none"


def framing_of_response(head: Head, method: str) -> str:
    """How the response's body was delimited (RFC 9112 §6.3, in its order)."""
    status = head.status
    if status is None:
        return "none"
    if status == 101:
        return "tunnel"
    if method == "HEAD" or status in (204, 304) or status < 200:
        return "none"
    return head.framing or "close"
