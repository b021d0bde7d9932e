r"""
Finds words that stand inside other words, so that they are found as well as the whole.

They are the parts of camelCase, words behind an escape that was left in a text (`\nword`, `\u00e9t\u00e9`),
and percent-encoded words.  The words of snake_case, paths and addresses are separate for FTS5's tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from logging_proxy.redaction.redact import redact_text

LONGEST = 64
"""Maximum characters of a word with parts; longer ones are not written by people."""

MOST_ESCAPED = 256
"""Maximum characters of an escaped word."""

MOST_WORDS = 20_000
"""Maximum words of a text that are looked into, which bounds what they add to the index."""

_CLASSES = bytes(
    ord("A") if chr(code).isupper() else ord("a") if chr(code).isalnum() else ord(" ") for code in range(128)
).ljust(256)
"""Capital letters, other letters and digits, and the rest."""

_HUMP = re.compile(rb"A(?:(?<=a.)|(?<=AA)(?=a))")
"""Where a part begins, in classes.  Searching for one byte costs a fifth of searching for any capital."""

BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Between the parts of camelCase."""

_ESCAPED = re.compile(rf"\\(?:[nrt]|u[0-9A-Fa-f]{{4}})[\w\\]{{0,{MOST_ESCAPED}}}")
_ENCODED = re.compile(rf"%[0-9A-Fa-f]{{2}}[\w%]{{0,{MOST_ESCAPED}}}")
_SLASHES = r"\\{1,16}"
"""JSON in JSON doubles them; without a limit, an endless run would be tried from each of them."""

ESCAPES = re.compile(f"{_SLASHES}(?:[nrt]|u[0-9A-Fa-f]{{4}}(?:{_SLASHES}u[0-9A-Fa-f]{{4}}){{0,40}})")
PERCENTS = re.compile("(?:%[0-9A-Fa-f]{2})+")
_CODE = re.compile(r"u([0-9A-Fa-f]{4})")


def inner_words(text: str) -> list[str]:
    """What stands inside the words of `text`: for each different word, its parts as a phrase."""
    parts = [found for word in dict.fromkeys(_camels(text)) if (found := _parts(word))]
    if "\\" in text or "%" in text:
        parts += _decoded_words(text)
    return parts


def _camels(text: str) -> Iterator[str]:
    """Words of ASCII letters with a capital letter inside."""
    letters = text.encode("utf-8", "replace")
    classes = letters.translate(_CLASSES)
    at = found = 0
    while found < MOST_WORDS and (hump := _HUMP.search(classes, at)):
        at = classes.find(b" ", hump.start())
        at = len(classes) if at < 0 else at
        begin = classes.rfind(b" ", 0, hump.start()) + 1
        found += 1
        if at - begin <= LONGEST:
            yield letters[begin:at].decode("ascii")


@lru_cache(maxsize=8192)
def _parts(word: str) -> str:
    """The parts of a word, with spaces; empty if it consists of random letters rather than of words."""
    parts = BORDER.sub(" ", word)
    return parts if " " in parts and 5 * (parts.count(" ") + 1) <= 2 * len(word) else ""


def _decoded_words(text: str) -> list[str]:
    words: dict[str, None] = {}
    for pattern, decode in ((_ESCAPED, unescaped), (_ENCODED, unquote)):
        for match in pattern.finditer(text):
            if word := decode(_beginning(text, match.start()) + match[0]).strip():
                words[word] = None
            if len(words) >= MOST_WORDS:
                break
    # What was escaped could not be recognised as a secret before.
    return redact_text("\n".join(words)).split("\n") if words else []


def _beginning(text: str, end: int) -> str:
    """The letters before `end`: the beginning of the word that goes on there with an escape."""
    at = end
    while at > 0 and end - at < LONGEST and (text[at - 1].isalnum() or text[at - 1] == "\\"):
        at -= 1
    return text[at:end]


def unescaped(text: str) -> str:
    r"""`text` with what `\n`, `\r`, `\t` and `\uXXXX` stand for, behind any number of backslashes."""
    return ESCAPES.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    codes = _CODE.findall(match[0])
    if not codes:
        return " "
    units = b"".join(int(code, 16).to_bytes(2, "little") for code in codes)
    return units.decode("utf-16-le", "replace").replace("\n", " ")
