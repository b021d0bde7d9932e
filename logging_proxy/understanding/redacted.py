"""
Redacts bodies by their structure: only what is secret is replaced, and all else stays as it was written.

Any text can be given, whole or cut.  The cost is linear, and memory is that of the text and of the result.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from logging_proxy.redaction.redact import is_secret_parameter
from logging_proxy.redaction.texts import secret_spans
from logging_proxy.redaction.values import REDACTED
from logging_proxy.understanding.allowance import STEP
from logging_proxy.understanding.escapes import unescaped
from logging_proxy.understanding.json_secrets import JsonSecrets, Pieces, Secret, apart, back_in, secrets_in
from logging_proxy.understanding.media_types import Form, form_of

_EVENT_END = re.compile(r"(?:\r\n|\n|\r){2,}")
_LINE = re.compile(r"[^\r\n]+")
_DATA = re.compile(r"(?:\A|(?<=[\r\n]))(?:data: ?)(.*)")
_POSITION = re.compile(r'"(?:index|output_index|content_index|summary_index)"\s*:\s*(\d+)')
_JOINED = 4096
"""Pieces that are joined at once."""

_LONGEST_EVENT = 64 << 10
"""Characters of an event in which numbers that tell streams apart are looked for."""
_FIELD = re.compile(r"(?:\A|(?<=[&\r\n]))([^=&\r\n]{1,2048})=([^&\r\n]+)")
_PART_NAME = re.compile(r"""(?i)content-disposition:[^\r\n]{0,1024}?[;\s]name=["']?([^"'\r\n;]{1,256})""")
_PART_BEGIN = re.compile(r"(?:\r\n|\n)(?:\r\n|\n)")

_BEFORE = " \t\r\n\ufeff\xef\xbb\xbf"
"""White space and byte order marks, also as single bytes."""

_WIDE = ("utf-16", "utf-32")
_SINGLE = "latin-1"
"""A charset in which every byte is a character: nothing but ASCII has to be understood."""


class Redacted(NamedTuple):
    """A redacted text, and where something was replaced: one entry for each secret."""

    text: str
    places: list[str]


def redact_body(text: str, form: Form = Form.TEXT) -> Redacted:
    """`text`, which is or was a body of this form, without its secrets."""
    secrets = find_secrets(text, form)
    if not secrets:
        return Redacted(text, [])
    parts, done = [], 0
    for secret in secrets:
        parts += [text[done : secret.start], secret.replacement]
        done = secret.end
    return Redacted(
        "".join([*parts, text[done:]]), [secret.where for secret in secrets if secret.replacement]
    )


def redact_bytes(pieces: Iterable[bytes], form: Form, charset: str) -> tuple[Iterator[bytes], list[str]]:
    """
    A decoded body without its secrets, and where they were; every byte that is not part of one stays.

    The body is held while it is searched, one byte of memory for each of its bytes.
    """
    text, charset = _exact(pieces, charset)
    secrets = find_secrets(text, form)
    return _replaced(text, secrets, charset), [secret.where for secret in secrets if secret.replacement]


def _replaced(text: str, secrets: list[Secret], charset: str) -> Iterator[bytes]:
    done = 0
    for secret in secrets:
        yield from _encoded(text, done, secret.start, charset)
        yield secret.replacement.encode(charset)
        done = secret.end
    yield from _encoded(text, done, len(text), charset)


def _encoded(text: str, start: int, end: int, charset: str) -> Iterator[bytes]:
    for at in range(start, end, STEP):
        yield text[at : min(end, at + STEP)].encode(charset, "surrogateescape")


def redact_events(events: list[str]) -> tuple[list[str], list[str]]:
    """The data of successive events without secrets, also those spread over events; and where they were."""
    text = "\n".join(events)
    ranges, at = [], 0
    for event in events:
        ranges.append((at, at + len(event)))
        at += len(event) + 1
    secrets = _in_stream(text, iter(ranges), are_data=True)
    result, number = [], 0
    for start, end in ranges:
        parts = []
        while number < len(secrets) and secrets[number].start < end:
            secret = secrets[number]
            parts += [text[start : secret.start], secret.replacement]
            start = secret.end
            number += 1
        result.append("".join([*parts, text[start:end]]))
    return result, [secret.where for secret in secrets if secret.replacement]


def _exact(pieces: Iterable[bytes], charset: str) -> tuple[str, str]:
    """The text of a body in a charset that gives the same bytes back."""
    if not charset.startswith((*_WIDE, "cp9", "gb", "big5", "iso2022")):
        return "".join(piece.decode(_SINGLE) for piece in pieces), _SINGLE
    body = b"".join(pieces)
    try:
        text = body.decode(charset, "surrogateescape")
        if text.encode(charset, "surrogateescape") == body:
            return text, charset
    except (UnicodeError, LookupError):
        pass
    if charset.startswith(_WIDE):
        # An odd byte at the end, or half of a pair: everything else is understood.
        return body.decode(charset, "ignore"), charset
    return body.decode(_SINGLE), _SINGLE


def find_secrets(text: str, form: Form) -> list[Secret]:
    """The secrets of a body, sorted, without overlaps."""
    if form is Form.EVENTS:
        return _in_stream(text, _events(text))
    if form is Form.JSON_LINES:
        return _in_stream(text, (match.span() for match in _LINE.finditer(text)))
    if form is Form.FIELDS:
        return _in_fields(text)
    if form is Form.MULTIPART:
        return _in_parts(text)
    if form is Form.JSON and text[:64].lstrip(_BEFORE)[:1] == "[":
        return _in_stream(text, iter([(0, len(text))]))  # Gemini streams the items of a list.
    return secrets_in(text)


# --- streams -----------------------------------------------------------------------


def _events(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    for match in _EVENT_END.finditer(text):
        yield at, match.start()
        at = match.end()
    yield at, len(text)


def _in_stream(text: str, events: Iterator[tuple[int, int]], are_data: bool = False) -> list[Secret]:
    """
    The secrets of a stream of JSON values or of texts, also those that it sends in pieces.

    `are_data` means that the events are the data alone, without the names of their fields.
    """
    pieces = Pieces()
    scanner = JsonSecrets(text, pieces=pieces)
    usual = _UsualEvent(text, pieces)
    for start, end in events:
        if scanner.is_full:
            break
        brace = _json_start(text, start, end)
        if brace < 0:
            _in_text_event(text, start, end, scanner.found, pieces, are_data)
        elif not usual.is_again(brace, end):
            seen, count = len(scanner.found), pieces.count
            position = tuple(_POSITION.findall(text, brace, end)) if end - brace < _LONGEST_EVENT else ()
            if not scanner.scan(brace, end, position):
                _in_text_event(text, start, end, scanner.found)
            usual.remember(brace, end, len(scanner.found) == seen and pieces.count == count + 1)
    found = scanner.found
    for path, places in pieces.places.items():
        if len(places) > 2:
            found += _in_pieces(text, places, ".".join(name for name in path if name and not name.isdigit()))
    return apart(found)


def _in_text_event(
    text: str, start: int, end: int, found: list[Secret], pieces: Pieces | None = None, is_data: bool = False
) -> None:
    """Look through an event or a line that is no JSON, and whose data may go on in the next one."""
    event = text[start:end]
    found += [Secret(start + a, start + b, "an event") for a, b in secret_spans(event)]
    if pieces is not None and is_data:
        pieces.add((), start, end)
    elif pieces is not None:
        for match in _DATA.finditer(event):
            pieces.add((), start + match.start(1), start + match.end(1))


class _UsualEvent:
    """
    The form of an event that has one piece of a growing string, and nothing to hide.

    Most events of a long answer differ in this piece only, and need not be scanned: the pieces are looked
    through when they are joined.
    """

    def __init__(self, text: str, pieces: Pieces) -> None:
        self._text = text
        self._pieces = pieces
        self._path: tuple[str, ...] | None = None
        self._before = self._after = ""

    def remember(self, start: int, end: int, is_usual: bool) -> None:
        self._path = None
        if is_usual:
            self._path = self._pieces.last
            at, to = self._pieces.places[self._path][-2:]
            self._before, self._after = self._text[start:at], self._text[to:end]

    def is_again(self, start: int, end: int) -> bool:
        """Whether an event is of this form; its piece is then noted."""
        text = self._text
        if self._path is None or not text.startswith(self._before, start):
            return False
        at, to = start + len(self._before), end - len(self._after)
        if to < at or not text.startswith(self._after, to) or text.find('"', at, to) >= 0:
            return False
        if text.find("\\", at, to) >= 0:
            return False
        self._pieces.add(self._path, at, to)
        return True


def _json_start(text: str, start: int, end: int) -> int:
    """Where the JSON of an event or a line begins: after what an event stream puts before it."""
    places = [place for place in (text.find("{", start, end), text.find("[", start, end)) if place >= 0]
    if not places:
        return -1
    first = min(places)
    before = text[max(start, first - 16) : first].rsplit("\n", 1)[-1].strip(f"\x1e{_BEFORE}")
    return first if before in ("", "data:") else -1


def _in_pieces(text: str, places: array[int], where: str) -> Iterator[Secret]:
    """The secrets of a string that is sent in pieces: each piece loses its part, the first one says so."""
    secrets = iter(secrets_in(_joined(text, places), where=where))
    secret = next(secrets, None)
    at = 0
    for number in range(0, len(places), 2):
        if secret is None:
            return
        start, literal = places[number], text[places[number] : places[number + 1]]
        end = at + len(unescaped(literal))
        here: list[Secret] = []
        while secret is not None and secret.start < end:
            replacement = REDACTED if secret.start >= at else ""
            here.append(
                Secret(max(secret.start, at) - at, min(secret.end, end) - at, secret.where, replacement)
            )
            if secret.end > end:
                break
            secret = next(secrets, None)
        for each, begin, to in back_in(literal, here):
            yield each._replace(start=start + begin, end=start + to)
        at = end


def _joined(text: str, places: array[int]) -> str:
    """The pieces as one; joined by and by, since a list of all of them would be larger than the text."""
    parts = []
    for number in range(0, len(places), 2 * _JOINED):
        some = range(number, min(len(places), number + 2 * _JOINED), 2)
        parts.append("".join([unescaped(text[places[each] : places[each + 1]]) for each in some]))
    return "".join(parts)


# --- forms -------------------------------------------------------------------------


def _in_fields(text: str) -> list[Secret]:
    found = [Secret(start, end, "") for start, end in secret_spans(text)]
    for match in _FIELD.finditer(text):
        if is_secret_parameter(match[1]):
            found.append(Secret(*match.span(2), match[1][-48:]))
    return apart(found)


def _in_parts(text: str) -> list[Secret]:
    """The secrets of a multipart body: of each part by its name and its content."""
    found: list[Secret] = []
    line = _LINE.search(text)
    boundary = line[0].rstrip() if line and line[0].startswith("--") else "--"
    at = 0
    while at < len(text):
        end = text.find(boundary, at + 1)
        end = len(text) if end < 0 else end
        found += _in_part(text, at, end)
        at = end
    return apart(found)


def _in_part(text: str, at: int, end: int) -> Iterator[Secret]:
    blank = _PART_BEGIN.search(text, at, min(end, at + 16384))
    if blank is None:
        yield from (Secret(at + a, at + b, "") for a, b in secret_spans(text[at:end]))
        return
    head = text[at : blank.start()]
    yield from (Secret(at + a, at + b, "the head of a part") for a, b in secret_spans(head))
    name = _PART_NAME.search(head)
    where = f"part {name[1][:48]}" if name else "a part"
    last = len(text[blank.end() : end].rstrip("\r\n")) + blank.end()
    if name and is_secret_parameter(name[1]) and "filename" not in head:
        if last > blank.end():
            yield Secret(blank.end(), last, where)
        return
    content = text[blank.end() : last]
    for secret in find_secrets(content, _form_of_part(head, content)):
        place = f"{where}: {secret.where}" if secret.where else where
        yield secret._replace(start=secret.start + blank.end(), end=secret.end + blank.end(), where=place)


_PART_TYPE = re.compile(r"(?i)content-type:\s*([^\r\n]{1,256})")


def _form_of_part(head: str, content: str) -> Form:
    declared = _PART_TYPE.search(head)
    form = form_of(declared[1] if declared else "", content[:4096].encode("utf-8", "replace"))
    return Form.TEXT if form in (Form.MULTIPART, Form.FIELDS) else form
