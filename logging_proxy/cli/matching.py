"""
Finds in a text where the words of a search stand, for snippets and to highlight them.

Whether an exchange is found is decided by the index, or by `UnindexedSearch`; this shows why.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from urllib.parse import unquote

from logging_proxy.index.folding import fold_fully
from logging_proxy.index.inner_words import BORDER, ESCAPES, PERCENTS, unescaped
from logging_proxy.index.words import Term, parse_search

AROUND = 60
"""Characters of context on each side of a match."""

WINDOW, OVERLAP = 64 << 10, 1 << 10
"""Characters of a long text that are looked through at once, and how many of them once more."""

_WORD = re.compile(r"[^\W_]+")
_NOTHING = re.compile(r"(?!)")
_SPACE = re.compile(r"\s+")

_LETTER = re.compile(
    "[^\x00-\x7f][\u0300-\u036f\u3099\u309a\uff9e\uff9f\u1160-\u11ff]*|[A-Za-z][\u0300-\u036f]+"
)
"""A letter that may have to be folded, with the marks that belong to it."""
_INNER = re.compile(f"{ESCAPES.pattern}|{PERCENTS.pattern}|{BORDER.pattern}|{_LETTER.pattern}")
"""Such letters, and what separates words inside of words."""


class Search:
    """The words of a search."""

    def __init__(self, text: str) -> None:
        self._wanted = [_pattern(term) for term in parse_search(text) if not term.negated]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The positions of wanted terms in `text`, sorted and without overlaps."""
        for separated in (_LETTER, _INNER):
            folded = _Folded(text, separated)
            found = sorted(
                folded.span(*match.span())
                for pattern in self._wanted
                for match in pattern.finditer(folded.text)
            )
            if found:
                return _apart(found)
        return []

    def snippet(self, text: str) -> str:
        """One line of `text` around the first match; empty if there is none."""
        for at in range(0, max(1, len(text) - OVERLAP), WINDOW):
            spans = self.spans(text[at : at + WINDOW + OVERLAP])
            if spans:
                return _line(text, at + spans[0][0], at + spans[0][1])
        return ""


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    apart: list[tuple[int, int]] = []
    for start, end in spans:
        if start < end and (not apart or start >= apart[-1][1]):
            apart.append((start, end))
    return apart


def _line(text: str, start: int, end: int) -> str:
    begin, stop = max(0, start - AROUND), min(len(text), end + AROUND)
    line = _SPACE.sub(" ", text[begin:stop]).strip()
    return f"{'…' if begin else ''}{line}{'…' if stop < len(text) else ''}"


def _pattern(term: Term) -> re.Pattern[str]:
    words = _WORD.findall(fold_fully(term.words))
    if not words:
        return _NOTHING
    end = r"[^\W_]*" if term.prefix else ""
    phrase = r"[\W_]+".join(words)
    return re.compile(rf"(?<![^\W_]){phrase}{end}(?![^\W_])")


class _Folded:
    """A folded text, and where its characters stood before."""

    def __init__(self, text: str, separated: re.Pattern[str]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        """For each piece: where it starts in the folded text, and where it stood in the original."""
        self._places: list[tuple[int, int, bool]] = []
        pieces, size = [], 0
        for start, end, folded in _pieces(text, separated):
            pieces.append(folded)
            self._starts.append(size)
            self._places.append((start, end, len(folded) == end - start))
            size += len(folded)
        self.text = "".join(pieces)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original place of a part of the folded text that is not empty."""
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, at: int) -> tuple[int, int]:
        number = bisect_right(self._starts, at) - 1
        start, end, same = self._places[number]
        if same:
            start += at - self._starts[number]
            end = start + 1
        return start, end


def _pieces(text: str, separated: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    """The pieces of `text`, each as its start, its end and its folded form."""
    at = 0
    for match in separated.finditer(text):
        start, end = match.span()
        if at < start:
            yield at, start, text[at:start].lower()
        yield start, end, _folded(match[0])
        at = end
    yield at, len(text), text[at:].lower()


def _folded(piece: str) -> str:
    if not piece:
        return " "
    decoded = unescaped(piece) if piece[0] == "\\" else unquote(piece) if piece[0] == "%" else piece
    return fold_fully(decoded)
