"""
Renders an exchange as text: summary, heads, bodies, streams.

Pure functions on captured data, which is untrusted: everything passes through
`safe`, and output is limited unless all of it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from logging_proxy.cli import units
from logging_proxy.cli.jsontext import is_json, json_lines
from logging_proxy.cli.matching import Search
from logging_proxy.cli.messages import Body, Message
from logging_proxy.cli.paint import Paint, cut, cut_line, padded, width
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import SIDES, Document, Exchange, Found, Side
from logging_proxy.cli.streams import StreamEvent
from logging_proxy.cli.tables import CELL, outcome_style, outcome_words
from logging_proxy.service.console import safe

SHOWN_LINES = 200
SHOWN_LINE = 4096
SHOWN_CHARACTERS = 32_768
"""Maximum characters of a body, unless all of it was asked for."""

WHOLE = 1 << 40
"""No limit."""

DUMPED = 256
"""Bytes of a binary body that are shown in hex."""

_TAB = 8


# --- one exchange ------------------------------------------------------------------


def summary(exchange: Exchange, redactor: Redactor, paint: Paint) -> Iterator[str]:
    """A few lines about an exchange."""
    row = exchange.row
    outcome = row.get("outcome")
    yield f"{paint(safe(exchange.id), 'bold')}  {paint(outcome_words(outcome), outcome_style(outcome))}"
    for name, value in _facts(exchange, redactor):
        if value:
            yield f"  {paint(padded(name, 9), 'dim')} {value}"


def _facts(exchange: Exchange, redactor: Redactor) -> Iterator[tuple[str, str]]:
    row = exchange.row
    yield "asked", _words(row.get("method"), redactor.url(_full(exchange, "source_url")))
    yield "sent to", _words(redactor.url(_full(exchange, "destination_url")), _in("route", row.get("route")))
    yield "client", _words(row.get("client"))
    yield "started", units.local_time(row.get("started_at"), 6)
    yield "answered", _answered(row)
    yield "ended", _ended(row)
    yield "model", _words(row.get("model"))
    yield "session", _words(row.get("session"))
    yield "run", _words(row.get("run"))
    yield "error", _words(redactor.url(str(row.get("error") or "")))
    for side in SIDES:
        yield side, _half(exchange, side)


def _full(exchange: Exchange, name: str) -> str:
    """The value in the metadata, which is neither shortened nor redacted; else the value in the row."""
    document = exchange.request or exchange.response or exchange.row
    return str(document.get(name) or "")


def _words(*words: Any) -> str:
    return " ".join(safe(str(word)) for word in words if word)


def _in(name: str, value: Any) -> str:
    return f"({name} {value})" if value else ""


def _answered(row: Document) -> str:
    status, after = row.get("status"), row.get("response_head_ms")
    if status is None:
        return ""
    by = " by the proxy itself" if row.get("answered_by") == "proxy" else ""
    return f"{safe(str(status))}{f' after {units.duration(after)}' if after is not None else ''}{by}"


def _ended(row: Document) -> str:
    if row.get("outcome") is None:
        return ""
    return f"after {units.duration(row.get('processing_time_ms') or 0)}"


def _half(exchange: Exchange, side: Side) -> str:
    document = exchange.half(side) or exchange.row.get(side) or {}
    if not document.get("filename"):
        return ""
    parts = [f"{document.get('bytes') or 0:,} bytes"]
    if document.get("framing") in ("chunked", "close", "tunnel"):
        parts.append(str(document["framing"]))
    if len(document.get("pieces") or []) > 1:
        parts.append(f"{len(document['pieces'])} pieces")
    refused = document.get("refused")
    if isinstance(refused, dict):
        parts.append(f"{refused.get('bytes') or 0:,} of them refused")
    return f"{', '.join(parts)}  {safe(str(document['filename']))}"


def head_lines(message: Message, mark: str, redactor: Redactor, paint: Paint) -> Iterator[str]:
    """The start line and the header fields, each prefixed with `mark`."""
    head = message.head
    start = redactor.line(" ".join(part for part in (head.first, head.second, head.third) if part))
    mark = paint(mark, "dim")
    yield f"{mark} {paint(safe(start), 'bold')}"
    for name, value in redactor.headers(head.headers):
        yield f"{mark} {paint(safe(name), 'blue')}: {safe(value, 8192)}"


# --- bodies ------------------------------------------------------------------------


def body_lines(message: Message, body: Body, redactor: Redactor, paint: Paint) -> Iterator[str]:
    """A whole body: JSON is laid out, other text unchanged; of binary data the beginning, in hex."""
    if body.text is None:
        yield from _dump(message, body.data, paint)
    elif is_json(body.text):
        yield from json_lines(body.text, redactor, paint)
    else:
        yield from text_lines(redactor.body(body.text, message.content_type))
    if body.trouble:
        yield paint(f"[{body.trouble}]", "red")


def text_lines(text: str) -> Iterator[str]:
    """The lines of a text, with any kind of line end."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    for line in lines:
        line = line.expandtabs(_TAB)
        yield safe(line, WHOLE)


def _dump(message: Message, data: bytes, paint: Paint) -> Iterator[str]:
    kind = safe(message.content_type, CELL) or "no type"
    yield paint(f"[{kind}, {len(data):,} bytes, not text]", "dim")
    for at in range(0, min(len(data), DUMPED), 16):
        line = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{paint(f'{at:08x}', 'dim')}  {line.hex(' '):<47}  {shown}"


def shortened(lines: Iterable[str], hint: str, paint: Paint) -> Iterator[str]:
    """The first lines within the limit; `hint` names the command that shows the rest."""
    room = SHOWN_CHARACTERS
    for number, line in enumerate(lines):
        if number == SHOWN_LINES or room <= 0:
            yield paint(f"[… more: {hint}]", "dim")
            return
        room -= len(line) + 1
        yield cut_line(line, SHOWN_LINE) if len(line) > SHOWN_LINE else line


# --- streams -----------------------------------------------------------------------


def event_line(
    event: StreamEvent, before: int, redactor: Redactor, paint: Paint, most: int | None = None
) -> str:
    """A stream's event: its time, the time since the previous one, its type and its data."""
    kind = f"{safe(event.kind, CELL)}  " if event.kind else ""
    times = f"{event.at / 1e6:10.6f} s {_gap(event.at - before)}"
    end = "" if event.whole else " [cut]"
    room = 1 << 30 if most is None else most - width(times) - width(kind) - width(end) - 2
    data = redactor.body(event.data, "")
    shown = cut(safe(data.replace("\n", "\\n"), WHOLE), max(room, 8))
    return f"{paint(times, 'dim')}  {paint(kind, 'blue')}{shown}{paint(end, 'red')}"


def _gap(microseconds: int) -> str:
    return padded(f"+{units.duration(max(0, microseconds) / 1000)}", 11, right=True)


# --- searches ----------------------------------------------------------------------


def snippet_line(found: Found, search: Search, paint: Paint, most: int | None = None) -> str:
    """The text around the words that were found, with the words highlighted."""
    label = f"    {found.side}: "
    text = safe(found.text, 1000)
    if most is not None:
        text = cut(text, max(20, most - len(label)))
    parts, done = [], 0
    for start, end in search.spans(text):
        parts += [text[done:start], paint(text[start:end], "found")]
        done = end
    return paint(label, "dim") + "".join([*parts, text[done:]])


# --- JSON --------------------------------------------------------------------------


def json_line(value: Any) -> str:
    """A JSON value on one line, in ASCII."""
    return json.dumps(value, separators=(",", ":"))
