"""
What is kept of a text: no blobs, no known secrets, nothing that cannot be stored, and not too much of it.

A blob is binary in letters: base64 in one line or wrapped, or a `data:` URL.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from logging_proxy.redaction.redact import redact_text

TEXT_LIMIT = 256 << 10
"""Characters kept of a body: an agent sends its whole history again with every turn."""

HEAD_SHARE = 64 << 10
"""Of a longer text so much is from its beginning, the rest from its end, which is what is new."""

_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])"
    r"(?:[A-Za-z0-9+/_-]{160,}+={0,2}|(?:[A-Za-z0-9+/]{60,159}+\r?\n){3,}+[A-Za-z0-9+/]*+={0,2})"
)
SHORTEST_BLOB = 160
"""Characters in a row that are no spaces: `_BASE64` needs so many, three lines of 60 have more."""

_DATA_URL = re.compile(r"data:[\w.+/;=-]{0,200},[A-Za-z0-9+/=_%-]*")
BINARY = re.compile("[\x00-\x08\x0e-\x1f]")


def ends_of(text: str, limit: int) -> str:
    """At most about `limit` characters: of a longer text its beginning and its end, as `clean` has it."""
    if len(text) <= limit:
        return text
    head = limit * HEAD_SHARE // TEXT_LIMIT
    return f"{text[:head]}\n{text[head - limit :]}"


def first_and_last(strings: Iterable[str]) -> Iterator[str]:
    """Of `strings` those of which `clean` keeps something, while no more than that is in memory."""
    room = HEAD_SHARE
    last: deque[str] = deque()
    size = 0
    for string in strings:
        if room > 0:
            room -= len(string) + 1
            yield string
            continue
        last.append(string)
        size += len(string) + 1
        while size - len(last[0]) - 1 >= TEXT_LIMIT:
            size -= len(last.popleft()) + 1
    yield from last


def clean(text: str, plain: bool = False) -> str:
    """
    `text` without blobs, secrets and what cannot be stored, and not too long.

    It is known to hold no control characters if it is `plain`: looking for them takes as long as all else.
    """
    text = ends_of(text, TEXT_LIMIT)
    if "data:" in text:
        text = _DATA_URL.sub(" ", text)
    text = redact_text(text)
    if _may_hold_blob(text):
        text = _BASE64.sub(" ", text)
    if not plain:
        text = BINARY.sub(" ", text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _may_hold_blob(text: str) -> bool:
    """Whether there is anything long enough; `_BASE64` itself takes five times as long to see it."""
    at, end = 0, len(text) - SHORTEST_BLOB
    while at <= end:
        space = text.rfind(" ", at, at + SHORTEST_BLOB)
        if space < 0:
            return True
        at = space + 1
    return False


def without_blob(string: str) -> str:
    """Nothing of a string that is one blob as a whole, so that it does not use up the limit."""
    if len(string) < SHORTEST_BLOB:
        return string
    if string.startswith("data:") or _BASE64.fullmatch(string):
        return ""
    return string
