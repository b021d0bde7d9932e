"""Judges values by their look: credentials are random, words of a language and names in code are not."""

from __future__ import annotations

import re

from logging_proxy.redaction.names import Strength, words_of

REDACTED = "REDACTED"

LONGEST_JUDGED = 128
"""Characters of a value that are looked at."""

SHORTEST = 6
"""Characters of the shortest value that can look like a credential."""

_REFERENCE = re.compile(
    r"""(?isx)
    (?:(?:bearer|basic|token)\s+)?
    (?:(?-i:\$[A-Z_][A-Z0-9_]*|%[A-Z_][A-Z0-9_]*%) | \$\{.* | \$\(.* | \$env:.* | \{+[^{}]*\}+ | <[^<>]*>
        | \[[^\[\]]*\])
    | [*x.•…\#_-]+ | .*\bREDACTED\b.* | (?:sk-)?(?:\.{3}|…|x{3,}|\*{3,}).*
    | (?:your|insert|enter|replace|change|put|example|dummy|placeholder)(?:[-_ ][a-z]+){0,6}
    | (?:import\.meta|process|secrets|settings|config|os|self|args|env|vault|op|ssm|this|options|params|props
        |request|req|ctx|context)(?:\.|://).*
    """
)
"""A value that stands for a secret kept elsewhere (`${API_KEY}`, `<token>`, `env.KEY`), or a mask."""

_TYPE_WORDS = frozenset(
    """
    any bool boolean bytes char dict enabled disabled false float int integer list missing nil none null
    number object optional present required secretstr str string text true undefined unknown valid invalid
    varchar void
    """.split()
)

_PIECE = re.compile(r"[A-Za-z0-9]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?|\d\d?:\d\d(?::\d\d)?")
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|apikey|digest|negotiate)\s+")


def is_reference(value: str) -> bool:
    """Whether `value` is no secret itself: a reference to one, a mask, or the name of a type."""
    value = value[:LONGEST_JUDGED].strip()
    return value.lower() in _TYPE_WORDS or _REFERENCE.fullmatch(value) is not None


def looks_random(value: str) -> bool:
    """
    Whether `value` looks like a credential: without white space, and partly random.

    Names in code, dates, versions and words do not look so, nor do numbers.
    """
    value = value[:LONGEST_JUDGED].strip()
    scheme = _SCHEME.match(value)
    if scheme:
        value = value[scheme.end() :]
    if len(value) < SHORTEST or any(map(str.isspace, value)) or is_reference(value):
        return False
    if _UUID.fullmatch(value):
        return True
    return any(map(_is_random, _PIECE.findall(_DATE.sub(" ", value))))


def _is_random(piece: str) -> bool:
    """Whether letters and digits without a break are no word: they mix, or their case changes within."""
    if len(piece) < SHORTEST:
        return False
    parts = _CAMEL.findall(piece)
    digits = sum(part[0].isdigit() for part in parts)
    if digits == len(parts):
        return False
    if digits:
        # `hunter2` mixes, as `page12` does; longer pieces are judged by how often they change.
        return len(parts) > 3 or (len(piece) >= 12 and len(parts) > 1 and not _ends_as_number(parts))
    return len(piece) >= (20 if len(parts) == 1 else 16) and (len(parts) == 1 or len(parts) * 4 > len(piece))


def _ends_as_number(parts: list[str]) -> bool:
    """Whether a word and a short number after it are all that there is (`conversation12`)."""
    return len(parts) == 2 and len(parts[0]) < 15 and parts[1].isdigit() and len(parts[1]) <= 4


def is_secret_by(judged: Strength, value: str, name: str = "") -> bool:
    """Whether the string `value` is a secret, outside of heads and URLs, by what was judged of its `name`."""
    if judged < Strength.WEAK or not value or is_reference(value):
        return False
    return judged is Strength.STRONG or looks_random(value) or _is_cookie(value, name)


def _is_cookie(value: str, name: str) -> bool:
    """Whether `value` is a list of cookies, and not the kind that is baked."""
    return "=" in value and bool(words_of(name)) and words_of(name)[-1] in ("cookie", "cookies")
