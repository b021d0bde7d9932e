"""
Full-text search without an index, and the text around matches.

Searches have the same meaning as in the index: whole words, ignoring case and
accents, `"phrases"`, `-without`, `begin*`.
"""

from __future__ import annotations

import re
import unicodedata

from logging_proxy.index.words import Term, parse_search, spread

AROUND = 60
"""Characters of context on each side of a match."""

_WORD = re.compile(r"[^\W_]+")
_NOTHING = re.compile(r"(?!)")
_SPACE = re.compile(r"\s+")


class Search:
    """A parsed search."""

    def __init__(self, text: str) -> None:
        terms = parse_search(text)
        self._wanted = [_pattern(term) for term in terms if not term.negated]
        self._unwanted = [_pattern(term) for term in terms if term.negated]

    @property
    def empty(self) -> bool:
        """Whether the search contains no words."""
        return not self._wanted and not self._unwanted

    def matches(self, *texts: str) -> bool:
        """Whether the texts together contain every wanted term and no unwanted one."""
        if self.empty:
            return False
        folded = [_folded(spread(text)) for text in texts]
        return all(any(map(pattern.search, folded)) for pattern in self._wanted) and not any(
            any(map(pattern.search, folded)) for pattern in self._unwanted
        )

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The positions of wanted terms in `text`, sorted and without overlaps."""
        folded = _folded(text, keep_length=True)
        found = sorted(match.span() for pattern in self._wanted for match in pattern.finditer(folded))
        apart: list[tuple[int, int]] = []
        for start, end in found:
            if not apart or start >= apart[-1][1]:
                apart.append((start, end))
        return apart

    def snippet(self, text: str) -> str:
        """One line of `text` around the first match; empty if there is none."""
        spans = self.spans(text)
        if not spans:
            return ""
        start, end = spans[0]
        begin, stop = max(0, start - AROUND), min(len(text), end + AROUND)
        line = _SPACE.sub(" ", text[begin:stop]).strip()
        return f"{'…' if begin else ''}{line}{'…' if stop < len(text) else ''}"


def _pattern(term: Term) -> re.Pattern[str]:
    words = _WORD.findall(_folded(term.words))
    if not words:
        return _NOTHING
    end = r"[^\W_]*" if term.prefix else ""
    phrase = r"[\W_]+".join(words)
    return re.compile(rf"(?<![^\W_]){phrase}{end}(?![^\W_])")


def _folded(text: str, keep_length: bool = False) -> str:
    """`text` without case and accents; `keep_length` preserves the number of characters."""
    if text.isascii():
        return text.lower()
    if keep_length:
        return "".join(_fold(character)[:1] or character for character in text)
    return "".join(map(_fold, text))


def _fold(character: str) -> str:
    if character.isascii():
        return character.lower()
    plain = (each for each in unicodedata.normalize("NFKD", character) if not unicodedata.combining(each))
    return "".join(plain).lower()
