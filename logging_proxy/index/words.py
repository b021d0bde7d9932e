"""
Converts texts to what SQLite's FTS5 indexes, and searches to FTS5 expressions.

An exchange is indexed under its texts and under *marks*: words derived from its route, status, model and so
on.  Any combination of filters is then one intersection of posting lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from logging_proxy.captures.heads import status_class
from logging_proxy.index.columns import FILTERS, Row
from logging_proxy.index.folding import fold, is_of_word
from logging_proxy.index.inner_words import inner_words
from logging_proxy.index.values import Filters, Texts, is_class

TERMS = 32
"""Maximum terms of a search; further ones are ignored."""

MOST_PREFIXES = 4
"""Maximum prefix terms (`begin*`), each of which may match many words; further ones are ignored."""

SHORTEST_PREFIX = 2
"""Minimum letters before `*`: a single letter matches too many words to be fast."""

_TERM = re.compile(r'(-(?!-)|)(?:"([^"]*)"?|([^\s"]+))(\*?)')
_QUOTES = str.maketrans(dict.fromkeys("\uff02\u201c\u201d\u201e\u201f\u300c\u300d\u300e\u300f", '"'))
"""Keyboards and programs make these of `"`."""

TOKENIZER = "unicode61 remove_diacritics 2"

SEPARATOR = "lpx0"
"""A word between texts, at which phrases end.  Without ASCII, SQLite would have to convert the whole text."""


@dataclass(frozen=True, slots=True)
class Term:
    """A phrase; `negated` if it must not occur, `prefix` if its last word is a prefix."""

    words: str
    negated: bool = False
    prefix: bool = False


def indexed_text(row: Row, texts: Texts) -> str:
    """The indexed text of an exchange.  It must be deterministic, because FTS5 needs it again to delete."""
    return words_of(texts, _marks(*[getattr(row, name) for name in FILTERS]))


def words_of(texts: Texts, marks: str = "") -> str:
    """What is indexed of two texts: their words, `marks`, and then the words inside words."""
    request, response = texts
    inner = inner_words(f"{request}\n{response}")
    text = f"{fold(request)}\n{SEPARATOR}\n{fold(response)}\n{SEPARATOR}\n{marks}"
    return f"{text}\n{_BETWEEN.join(['', *map(fold, inner)])}" if inner else text


_BETWEEN = f"\n{SEPARATOR} "


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
    The terms of a search: words, `"phrases"`, `-without`, `begin*`; `--option` is a word.

    Never raises.  Terms without a letter or digit are dropped.
    """
    terms: list[Term] = []
    prefixes = 0
    q = q.translate(_QUOTES).replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")
    for match in _TERM.finditer(q):
        phrase, word = match[2], match[3]
        star = bool(match[4]) or (word is not None and word.endswith("*"))
        words = fold(phrase if word is None else word).replace('"', " ")
        last = _last_word(words)
        if last:
            is_prefix = star and len(last) >= SHORTEST_PREFIX
            prefixes += is_prefix
            if not is_prefix or prefixes <= MOST_PREFIXES:
                terms.append(Term(words, bool(match[1]), is_prefix))
    return terms[:TERMS]


def _last_word(words: str) -> str:
    """The last word of `words`; empty if there is none."""
    separated = "".join(c if is_of_word(c) else " " for c in words).split()
    return separated[-1] if separated else ""
