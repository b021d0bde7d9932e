"""
Converts texts to what SQLite's FTS5 indexes, and searches to FTS5 expressions.

An exchange is indexed under its texts and under *marks*: words derived from its route, status, model and so
on.  Any combination of filters is then one intersection of posting lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from logging_proxy.captures.heads import status_class
from logging_proxy.index.columns import FILTERS, Row
from logging_proxy.index.values import Filters, Texts, is_class

TERMS = 32
"""Maximum terms of a search; further ones are ignored."""

MOST_PREFIXES = 4
"""Maximum prefix terms (`begin*`), each of which may match many words; further ones are ignored."""

SHORTEST_PREFIX = 2
"""Minimum letters before `*`: a single letter matches too many words to be fast."""

_TERM = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))(\*?)')
_NO_SPACES = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)
"""Scripts without spaces: each character is indexed as a word, and several are searched as a phrase."""


@dataclass(frozen=True, slots=True)
class Term:
    """A phrase; `negated` if it must not occur, `prefix` if its last word is a prefix."""

    words: str
    negated: bool = False
    prefix: bool = False


def indexed_text(row: Row, texts: Texts) -> str:
    """The indexed text of an exchange.  It must be deterministic, because FTS5 needs it again to delete."""
    marks = _marks(*[getattr(row, name) for name in FILTERS])
    return f"{spread(texts.request)}\n{spread(texts.response)}\n{marks}"


def spread(text: str) -> str:
    """`text` with spaces around characters of scripts that have none."""
    return text if text.isascii() else _NO_SPACES.sub(r" \1 ", text)


# --- marks -----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _marks(*values: str | int | None) -> str:
    """The marks of an exchange, one a line: the values of the filter columns, and their classes."""
    marks = [EVERY]
    for (name, filter), value in zip(FILTERS.items(), values, strict=True):
        if value is not None:
            marks.append(mark(name, value))
            if filter.classes and isinstance(value, int) and value:
                marks.append(mark("class", status_class(value)))
    return "\n".join(marks)


@lru_cache(maxsize=4096)
def mark(name: str, value: str | int) -> str:
    """The word for a value.  A text may contain it on purpose, so the query compares the columns too."""
    digest = blake2b(f"{name}={value}".encode("utf-8", "replace"), digest_size=8)
    return f"lpx{digest.hexdigest()}"


EVERY = mark("every", 1)
"""The mark of every exchange, from which purely negative searches subtract."""


def _wanted_marks(filters: Filters) -> Iterator[str]:
    for name, value in filters.where.items():
        yield mark("class" if is_class(name, value) else name, value)


# --- searches ----------------------------------------------------------------------


def match_expression(filters: Filters) -> str | None:
    """
    The FTS5 expression for `filters` without their times; None if there is no other filter.

    The result is valid FTS5 syntax for any input.  A search that contains no word matches nothing.
    """
    wanted = [f'"{word}"' for word in _wanted_marks(filters)]
    unwanted: list[str] = []
    if filters.q is not None and filters.q.strip():
        terms = parse_search(filters.q)
        wanted += [_quoted(term) for term in terms if not term.negated]
        unwanted = [_quoted(term) for term in terms if term.negated]
        wanted = wanted or [f'"{EVERY}"' if unwanted else f'"{mark("every", 0)}"']
        if not terms:
            wanted.append(f'"{mark("every", 0)}"')
    if not wanted:
        return None
    expression = " AND ".join(wanted)
    return f"({expression}) NOT ({' OR '.join(unwanted)})" if unwanted else expression


def _quoted(term: Term) -> str:
    return f'"{term.words}"{" *" if term.prefix else ""}'


def parse_search(q: str) -> list[Term]:
    """
    The terms of a search: words, `"phrases"`, `-without`, `begin*`.

    Never raises.  Terms without a letter or digit are dropped.
    """
    terms: list[Term] = []
    prefixes = 0
    q = q.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")
    for match in _TERM.finditer(q):
        phrase, word = match[2], match[3]
        star = bool(match[4]) or (word is not None and word.endswith("*"))
        words = spread(phrase if word is None else word)
        last = _last_word(words)
        if last:
            is_prefix = star and len(last) >= SHORTEST_PREFIX
            prefixes += is_prefix
            if not is_prefix or prefixes <= MOST_PREFIXES:
                terms.append(Term(words, bool(match[1]), is_prefix))
    return terms[:TERMS]


def _last_word(words: str) -> str:
    """The last word of `words`; empty if there is none."""
    separated = "".join(c if _is_token_character(c) else " " for c in words).split()
    return separated[-1] if separated else ""


def _is_token_character(character: str) -> bool:
    """Whether the tokenizer unicode61 treats `character` as part of a word."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"
