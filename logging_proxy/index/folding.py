"""
Folds letters to the form in which they are indexed and searched: a word is one word in any spelling.

Case, accents and forms for compatibility (full width, half width, ligatures, decomposed letters) make no
difference.  What FTS5's tokenizer does by itself, for ASCII and most of Latin, is left to it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

RUN = 32
"""
Maximum characters folded together.  Putting marks in order takes time quadratic in their number, so an
endless run of them must not be folded at once.
"""

_MARKS = "\u0300-\u036f\u3099\u309a\uff9e\uff9f\u1160-\u11ff"
"""Characters that join the one before: accents, voiced marks of kana, vowels and finals of Hangul."""

_LEFT = (
    "\x00-\x7f\xa0-\xa9\xab\xac\xae\xaf\xb0\xb1\xb4\xb6-\xb8\xbb\xbf-\xc5\xc7-\xd7\xd9-\xdd\xe0-\xe5\xe7-\xf7\xf9-\xfd"
    "\xff-\u010f\u0112-\u012f\u0134-\u0137\u0139-\u013e\u0143-\u0148\u014c-\u0151\u0154-\u017e"
    "\u2010-\u2027\u2030-\u205e\u2190-\u23f3\u2400-\u2426\u2440-\u244a\u2500-\u26ff\u2701-\u2b4c\u3000-\u3029\u3041-\u3098\u309b-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
)
"""Characters that need no folding: FTS5 does it, or they are no letters, or have one form only."""

_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u3098\u309b-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""
Scripts without spaces, or with words that grow at their ends (Hangul): each character is indexed as a word,
and several are searched as a phrase.
"""

_NO_SPACES = re.compile(f"[{_ALONE}]+")
_CHANGED = re.compile(
    f"[^{_LEFT}]{{1,{RUN}}}(?![{_MARKS}])"
    "|[\u3041-\u30ff][\u3099\u309a]|[\uac00-\ud7a3][\u11a8-\u11ff]"
    f"|([{_ALONE}]+)(?![{_MARKS}])"
)

_LETTERS = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"})
_INVISIBLE = frozenset("\xad\u200b\u200c\u200d\u2060\ufeff\ufe0e\ufe0f")


def fold(text: str) -> str:
    """`text` as it is indexed, in any case: FTS5 ignores that itself."""
    return text if text.isascii() else _CHANGED.sub(_change, text)


def _change(match: re.Match[str]) -> str:
    return _apart(match) if match[1] else _NO_SPACES.sub(_apart, _fold_run(match[0]))


_ANY_RUN = re.compile(f"[^\x00-\x7f]{{1,{RUN}}}(?![{_MARKS}])")


def fold_fully(text: str) -> str:
    """`text` in lower case and folded, including what `fold` leaves to FTS5."""
    if text.isascii():
        return text.lower()
    return _NO_SPACES.sub(_apart, _ANY_RUN.sub(_fold_match, text)).lower()


def _apart(match: re.Match[str]) -> str:
    return f" {' '.join(match[0])} "


def _fold_match(match: re.Match[str]) -> str:
    return _fold_run(match[0])


@lru_cache(maxsize=8192)
def _fold_run(run: str) -> str:
    plain = unicodedata.normalize("NFKD", run.casefold())
    return unicodedata.normalize("NFC", "".join(map(_fold_character, plain)).translate(_LETTERS))


def _fold_character(character: str) -> str:
    if character in _INVISIBLE or _is_accent(character):
        return ""
    return character if is_of_word(character) or unicodedata.combining(character) else " "


def is_of_word(character: str) -> bool:
    """Whether FTS5's tokenizer unicode61 should treat `character` as part of a word."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _is_accent(character: str) -> bool:
    """
    Whether a mark changes a letter only slightly, by its combining class (UAX #44 §5.7.4).

    Those that make another letter stay: the voiced marks of kana (8), vowels of Thai and Lao (103 to 122).
    """
    kind = unicodedata.combining(character)
    return kind >= 200 or kind == 1 or 10 <= kind <= 36
