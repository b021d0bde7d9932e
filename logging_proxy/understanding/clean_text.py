"""
Cleans text for the index: removes blobs, secrets and characters that cannot be stored, and limits its length.

A blob is binary data encoded as text: base64, in one line or wrapped, or a `data:` URL.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from logging_proxy.redaction.redact import redact_text

TEXT_LIMIT = 1 << 20
"""Maximum characters kept of a body."""

HEAD_SHARE = 64 << 10
"""Characters kept from the start of a longer text.  The rest comes from its end, where the new turn is."""

_LONGEST_WORD = 1024
"""Maximum characters by which a cut is moved to the end of a word."""

_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])"
    r"(?:[A-Za-z0-9+/_-]{160,}+={0,2}|(?:[A-Za-z0-9+/]{60,159}+\r?\n){3,}+[A-Za-z0-9+/]*+={0,2})"
)
SHORTEST_BLOB = 160
"""Minimum length of a run without spaces that `_BASE64` can match; three wrapped lines of 60 are longer."""

_DATA_URL = re.compile(r"data:[\w.+/;=-]{0,200},[A-Za-z0-9+/=_%-]*")
_SPACE = re.compile("[ \n]")
BINARY = re.compile("[\x00-\x08\x0e-\x1f]")


def ends_of(text: str, limit: int) -> str:
    """`text`, or the start and the end of a longer one, together at most about `limit` characters."""
    if len(text) <= limit:
        return text
    head = limit * HEAD_SHARE // TEXT_LIMIT
    return f"{first_of(text, head)}\n{last_of(text, limit - head)}"


def first_of(text: str, limit: int) -> str:
    """The start of `text`, without a word that is cut: it might be a part of a secret."""
    if len(text) <= limit:
        return text
    end = max(0, limit)
    space = max(
        text.rfind(" ", max(0, end - _LONGEST_WORD), end), text.rfind("\n", max(0, end - _LONGEST_WORD), end)
    )
    return text[: space if space > 0 else end]


def last_of(text: str, limit: int) -> str:
    """The end of `text`, without a word that is cut."""
    if len(text) <= limit:
        return text
    start = len(text) - max(0, limit)
    space = _SPACE.search(text, start - 1, start + _LONGEST_WORD)
    return text[space.start() + 1 if space else start :]


def first_and_last(strings: Iterable[str]) -> Iterator[str]:
    """The strings from the start and the end that `clean` would keep, holding only those in memory."""
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
    `text` without blobs, secrets and unstorable characters, at most about `TEXT_LIMIT` long.

    `plain` promises that there are no control characters, which skips the expensive search for them.
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
    """Whether any run without spaces is long enough for a blob: a cheap check before the slow `_BASE64`."""
    at, end = 0, len(text) - SHORTEST_BLOB
    while at <= end:
        space = text.rfind(" ", at, at + SHORTEST_BLOB)
        if space < 0:
            return True
        at = space + 1
    return False


def without_blob(string: str) -> str:
    """`string`, or the empty string if all of it is one blob, so that blobs do not use up the text limit."""
    if len(string) < SHORTEST_BLOB:
        return string
    if string.startswith("data:") or _BASE64.fullmatch(string):
        return ""
    return string
