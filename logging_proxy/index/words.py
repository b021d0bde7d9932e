"""
From texts to what SQLite's FTS5 indexes, and from searches to its expressions.

Besides its texts an exchange is indexed under *marks*: words made from its
route, status, model and so on.  A combination of filters is then one
intersection of posting lists, whatever is rare in it.
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
"""Terms of a search; more are ignored."""

MOST_PREFIXES = 4
"""Of them such as `begin*`, each of which may stand for a large part of all words; more are ignored."""

SHORTEST_PREFIX = 2
"""Letters before `*`: one letter begins a tenth of all words, and takes a second with a million rows."""

_TERM = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))(\*?)')
_NO_SPACES = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)
"""Scripts without spaces between words: each character becomes a word, a search for several a phrase."""


@dataclass(frozen=True, slots=True)
class Term:
    """Words in a row; `negated` for those that must not be there, `prefix` when the last may go on."""

    words: str
    negated: bool = False
    prefix: bool = False


def indexed_text(row: Row, texts: Texts) -> str:
    """All that an exchange is found by.  The same for the same values: deleting needs it again."""
    marks = _marks(*[getattr(row, name) for name in FILTERS])
    return f"{spread(texts.request)}\n{spread(texts.response)}\n{marks}"


def spread(text: str) -> str:
    """`text` with words that the tokenizer can tell apart."""
    return text if text.isascii() else _NO_SPACES.sub(r" \1 ", text)


# --- marks -----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _marks(*values: str | int | None) -> str:
    """The marks of an exchange, one a line: the values of the columns in `FILTERS`, and their classes."""
    marks = [EVERY]
    for (name, filter), value in zip(FILTERS.items(), values, strict=True):
        if value is not None:
            marks.append(mark(name, value))
            if filter.classes and isinstance(value, int) and value:
                marks.append(mark("class", status_class(value)))
    return "\n".join(marks)


@lru_cache(maxsize=4096)
def mark(name: str, value: str | int) -> str:
    """One word that no text has but by intent; the caller compares the columns as well."""
    digest = blake2b(f"{name}={value}".encode("utf-8", "replace"), digest_size=8)
    return f"lpx{digest.hexdigest()}"


EVERY = mark("every", 1)
"""Every exchange has it: what "all but" starts from."""


def _wanted_marks(filters: Filters) -> Iterator[str]:
    for name, value in filters.where.items():
        yield mark("class" if is_class(name, value) else name, value)


# --- searches ----------------------------------------------------------------------


def match_expression(filters: Filters) -> str | None:
    """
    The FTS5 expression for `filters` but their times; None when only times are asked for.

    Correct FTS5 syntax whatever the texts are.  A search without a single word
    finds nothing, as no text holds what it asks for.
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

    Never fails.  What has neither letter nor digit is left out.
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
    """Empty when there is no word at all."""
    separated = "".join(c if _is_token_character(c) else " " for c in words).split()
    return separated[-1] if separated else ""


def _is_token_character(character: str) -> bool:
    """Of the categories that the tokenizer unicode61 makes words of."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"
