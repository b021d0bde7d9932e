"""
Renders an exchange as text: summary, heads, bodies, streams.

Pure functions on captured data, which is untrusted: everything passes through
`safe`, and output is limited unless all of it was asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from logging_proxy.cli import units
from logging_proxy.cli.jsontext import is_json, json_fragments, lines_of
from logging_proxy.cli.matching import Search
from logging_proxy.cli.messages import Message
from logging_proxy.cli.paint import Paint, cut, cut_line, padded, width
from logging_proxy.cli.redacting import redacted_text
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import SIDES, Document, Exchange, Found, Side
from logging_proxy.cli.streams import StreamEvent
from logging_proxy.cli.tables import CELL, outcome_style, outcome_words
from logging_proxy.redaction.redact import REDACTED
from logging_proxy.service.console import safe
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.media_types import Form

SHOWN_LINES = 200
SHOWN_LINE = 4096
SHOWN_CHARACTERS = 32_768
"""Maximum characters of a body, unless all of it was asked for."""

WHOLE_LINE = 1 << 40
"""No limit."""

DUMPED = 256
"""Bytes of a binary body that are shown in hex."""

CHECKED = 1 << 20
"""Characters up to which it is checked whether JSON is valid."""

_TAB = 8


# --- one exchange ------------------------------------------------------------------


def title(exchange: Exchange, redactor: Redactor, paint: Paint) -> Iterator[str]:
    """Two lines about an exchange: which one it is, and what was called when."""
    row = exchange.row
    yield f"{paint(safe(exchange.id), 'bold')}  {paint(outcome_words(row.get('outcome')), 'dim')}"
    called = _words(row.get("method"), redactor.url(_full(exchange, "source_url")), row.get("status"))
    yield paint(f"{units.local_time(row.get('started_at'))}  {called}", "dim")


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


def body_fragments(body: Body, redactor: Redactor, paint: Paint, most: int | None = None) -> Iterator[str]:
    """
    A whole body in fragments, see `lines_of`: JSON is laid out, other text unchanged; of binary data the
    beginning is shown, in hex.  With `most` a line need not be longer than that.
    """
    if body.form is Form.BINARY:
        yield from _dump(body, redactor, paint)
    elif body.form is Form.MULTIPART:
        yield from _parts(body, redactor, paint, most)
    elif body.form is Form.JSON:
        yield from _json(body, redactor, paint, most)
    else:
        yield from _text(redacted_text(body, redactor, _read(most)))
    if body.trouble:
        yield f"\n{paint(f'[{body.trouble}]', 'red')}"


def body_lines(body: Body, redactor: Redactor, paint: Paint, most: int | None = None) -> Iterator[str]:
    """The lines of `body_fragments`."""
    return lines_of(body_fragments(body, redactor, paint, most), most)


def _json(body: Body, redactor: Redactor, paint: Paint, most: int | None) -> Iterator[str]:
    """JSON laid out; a short text that is not valid stays as it is."""
    start, rest = read_start(redacted_text(body, redactor, _read(most)), CHECKED)
    if rest is None and not is_json(start):
        yield from _text([start])
    else:
        yield from json_fragments(itertools.chain([start], rest or ()), paint, most)


def _read(most: int | None) -> int | None:
    """How many bytes to read for lines that are cut: more than are shown, so that no cut is seen."""
    return None if most is None else max(2 * CHECKED, 4 * SHOWN_CHARACTERS)


def read_start(pieces: Iterable[str], limit: int) -> tuple[str, Iterator[str] | None]:
    """The text as far as `limit`, and the rest of it; None for a text that ends before."""
    source = iter(pieces)
    start: list[str] = []
    size = 0
    for piece in source:
        start.append(piece)
        size += len(piece)
        if size > limit:
            return "".join(start), source
    return "".join(start), None


def _parts(body: Body, redactor: Redactor, paint: Paint, most: int | None) -> Iterator[str]:
    """The parts of a multipart body, each with its name; a secret field without its value."""
    line_end = ""
    for head, part in body.parts():
        names = [("name", head.name), ("file", head.filename), ("type", head.content_type)]
        words = " ".join(f"{name}={safe(redactor.text(value), CELL)}" for name, value in names if value)
        yield f"{line_end}{paint(f'[part {words}]' if words else '[part]', 'blue')}"
        line_end = "\n"
        if head.name and not head.filename and redactor.hides(head.name):
            yield f"\n{REDACTED}"
        elif part.start:
            fragments = body_fragments(part, redactor, paint, most)
            yield f"\n{next(fragments, '')}"
            yield from fragments
    if not line_end:
        yield from _dump(body, redactor, paint)


def _text(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text, with any kind of line end; what cannot be printed becomes an escape."""
    line_ends = 0
    carry = ""
    for piece in pieces:
        piece = carry + piece
        # A CR at the end may be the first half of CR LF.
        carry = "\r" if piece.endswith("\r") else ""
        lines = piece[: len(piece) - len(carry)].replace("\r\n", "\n").split("\n")
        for number, line in enumerate(lines):
            line_ends += number > 0
            if line:
                yield from itertools.repeat("\n", line_ends)
                yield safe(line.expandtabs(_TAB), WHOLE_LINE)
                line_ends = 0
    yield from itertools.repeat("\n", line_ends if carry else line_ends - 1)
    yield safe(carry)


def _dump(body: Body, redactor: Redactor, paint: Paint) -> Iterator[str]:
    kind = safe(body.content_type, CELL) or "no type"
    size = sum(map(len, body.data()))
    yield paint(f"[{kind}, {size:,} bytes, not text]", "dim")
    data = b"".join(redactor.data([body.start[: 4 * DUMPED]], body.form, body.charset))
    for at in range(0, min(len(data), DUMPED), 16):
        line = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"\n{paint(f'{at:08x}', 'dim')}  {line.hex(' '):<47}  {shown}"


def shortened(lines: Iterable[str], hint: str, paint: Paint) -> Iterator[str]:
    """The first lines within the limit; `hint` names the command that shows the rest."""
    room = SHOWN_CHARACTERS
    for number, line in enumerate(lines):
        if number == SHOWN_LINES or room <= 0:
            yield paint(f"[… more: {hint}]", "dim")
            return
        shown = cut_line(line, SHOWN_LINE) if len(line) > SHOWN_LINE else line
        room -= len(shown) + 1
        yield shown


# --- streams -----------------------------------------------------------------------


def event_line(event: StreamEvent, before: int, paint: Paint, most: int | None = None) -> str:
    """A stream's redacted event: its time, the time since the previous one, its type and its data."""
    kind = f"{safe(event.kind, CELL)}  " if event.kind else ""
    times = f"{event.mark} " if event.mark else ""
    times += f"{event.at / 1e6:10.6f} s {_gap(event.at - before)}"
    end = "" if event.whole else " [cut]"
    room = 1 << 30 if most is None else most - width(times) - width(kind) - width(end) - 2
    shown = cut(safe(event.data.replace("\n", "\\n"), WHOLE_LINE), max(room, 8))
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
