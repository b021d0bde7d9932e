"""
What of a half may be given away: its head and its body without secrets.

Only secrets are replaced; every other byte stays as it is.  A body with a content coding that has secrets is
given decoded, and its head says so.  What cannot be read is not given at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from logging_proxy.cli.messages import Message, OpenBytes, head_first, open_message
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import Trouble
from logging_proxy.cli.streams import StreamEvent
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.decoding import Trouble as CodingTrouble
from logging_proxy.understanding.media_types import Form

HELD = 64 << 20
"""Bytes of a body that are redacted together; a longer one is redacted in parts, which end with a line."""

HELD_LINES = 16 << 20
"""The same for streams and texts, whose lines tell most by themselves; what is found in them takes memory."""

LINE = 1 << 20
"""Bytes in which the end of a line is looked for."""

BATCH = 8 << 20
"""Characters of events that are redacted together."""

_UNREAD = frozenset(
    map(str, (CodingTrouble.OUTPUT, CodingTrouble.RATIO, CodingTrouble.TIME, CodingTrouble.MEMBERS))
)
"""Why decoding stops though there is more."""


def redacted_data(body: Body, redactor: Redactor, most: int | None = None) -> Iterator[bytes]:
    """The decoded bytes of a body without secrets; with `most` only the beginning is read."""
    if redactor.reveal:
        yield from body.data()
        return
    data, part = body.data(), bytearray()
    size = HELD if body.form in (Form.JSON, Form.FIELDS, Form.MULTIPART, Form.BINARY) else HELD_LINES
    is_over = False
    while not is_over:
        is_over = not _fill(part, data, size if most is None else most) or most is not None
        carry = bytearray() if is_over else _after_last_line(part)
        held, part = [part], carry
        yield from redactor.data(_taken(held), body.form, body.charset)


def _taken(held: list[bytearray]) -> Iterator[bytes]:
    """What is held, which is not held any more when it was taken."""
    while held:
        yield bytes(held.pop())


def _fill(part: bytearray, data: Iterator[bytes], size: int) -> bool:
    """Read until `part` has `size` bytes; False if there are no more."""
    for piece in data:
        part += piece
        if len(part) >= size:
            return True
    return False


def _after_last_line(part: bytearray) -> bytearray:
    """Take what follows the last line end from the end of `part`."""
    start = len(part) - LINE
    at = part.rfind(b"\n", max(0, start)) + 1 or part.rfind(b" ", max(0, start)) + 1 or len(part)
    end = part[at:]
    del part[at:]
    return end


def redacted_text(body: Body, redactor: Redactor, most: int | None = None) -> Iterator[str]:
    """The text of a body without secrets; with `most` only the beginning is read."""
    return body.text(data=redacted_data(body, redactor, most))


def redacted_events(events: Iterable[StreamEvent], redactor: Redactor) -> Iterator[StreamEvent]:
    """The events of a stream without secrets, also those that are spread over events."""
    batch: list[StreamEvent] = []
    size = 0
    for event in events:
        batch.append(event)
        size += len(event.data)
        if size >= BATCH:
            yield from _batch(batch, redactor)
            batch, size = [], 0
    yield from _batch(batch, redactor)


def _batch(batch: list[StreamEvent], redactor: Redactor) -> Iterator[StreamEvent]:
    for event, data in zip(batch, redactor.events([event.data for event in batch]), strict=True):
        yield event if event.data == data else replace(event, data=data)


# --- bytes -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RedactedBody:
    """A body to give away: whether its content coding was taken off, and its size if that is new."""

    pieces: Iterable[bytes]
    is_decoded: bool = False
    size: int | None = None


def redacted_body(message: Message, redactor: Redactor) -> RedactedBody:
    """
    The body of a message without secrets: as it was sent, if it has none.

    Raises `Trouble` if it cannot be decoded, since then it may have any.
    """
    if redactor.reveal:
        return RedactedBody(message.pieces())
    count = redactor.count
    body = message.body()
    pieces = list(redacted_data(body, redactor))
    if _is_unread(body, message):
        raise Trouble(
            f"the body has a content coding and cannot be searched for secrets ({body.trouble});"
            " --reveal gives its exact bytes"
        )
    if redactor.count == count:
        return RedactedBody(message.pieces())
    return RedactedBody(pieces, bool(message.codings), sum(map(len, pieces)))


def _is_unread(body: Body, message: Message) -> bool:
    """Whether there is something in a body that was read which could not be decoded."""
    if not _UNREAD.isdisjoint(body.trouble.split("; ")):
        return True
    return bool(message.codings and body.trouble) and body.form is Form.BINARY


def redacted_half(open_half: OpenBytes, redactor: Redactor) -> Iterator[bytes]:
    """The content of a `.bin` without secrets; `Trouble`, if any, is raised before the first bytes."""
    head, blank, _ = head_first(open_half())
    body = redacted_body(open_message(open_half), redactor)
    start, *lines = head.decode("latin-1").split("\r\n")
    fields = (line for line in _redacted_lines(lines, redactor) if not _is_replaced(line, body))
    if body.size is not None:
        fields = (_with_length(line, body.size) for line in fields)
    yield "\r\n".join([redactor.line(start), *fields]).encode("latin-1") + blank
    yield from body.pieces


def _redacted_lines(lines: list[str], redactor: Redactor) -> Iterator[str]:
    """The field lines; those without secrets are unchanged."""
    fields = []
    for line in lines:
        name, _, value = line.partition(":")
        fields.append((name, value.strip(" \t")))
    for line, field, redacted in zip(lines, fields, redactor.headers(fields), strict=True):
        yield line if redacted == field else ": ".join(part for part in redacted if part)


def _is_replaced(line: str, body: RedactedBody) -> bool:
    """Whether a field is no longer true: the coding of a body that is given decoded."""
    return body.is_decoded and line.partition(":")[0].strip().lower() == "content-encoding"


def _with_length(line: str, size: int) -> str:
    """The field line, with the new size of the body if it tells the size."""
    name, colon, _ = line.partition(":")
    return f"{name}{colon} {size}" if name.strip().lower() == "content-length" else line
