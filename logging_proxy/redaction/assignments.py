"""
Finds secrets in texts by the names before them: `API_KEY=...`, `"password": "..."`, `--token ...`, headers.

Texts are prose, code, logs and configuration.  A value is a secret if its name says so and it looks like a
literal; names in code, types, descriptions and references such as `$API_KEY` are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from logging_proxy.redaction.forms import Span
from logging_proxy.redaction.names import Strength, strength, words_of
from logging_proxy.redaction.values import is_reference, is_secret_by, looks_random

STEP, OVERLAP = 64 << 10, 512
"""Characters that are searched at once, and how many of them once more: a find may begin before the end."""

LONGEST_VALUE, LONGEST_BARE = 8192, 256
"""Characters of a value, in quotes and without, that are read before it is judged."""

_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
_LONGEST_HEAD = 64

_STEMS = ("key", "token", "secret", "pass", "pwd", "cred", "auth", "sig", "cookie", "jwt")
"""One of these, in any case, is in the name of nearly every secret."""

_SCHEMES = frozenset(["bearer", "basic"])
_HINTS = (*_STEMS, *_SCHEMES)

_AFTER_NAME = re.compile(
    r"""(?x)
    [\w\]-]{0,64}+ [\\"'`\])]{0,8}+ (?P<blank>[ \t]{0,8}+)
    (?P<sign>
        => | :=? (?!//|:) | ={1,3} (?!=) | \( (?=["']) | > (?=[^\s<]) | (?<=[ ])(?=[^\s-]) | ,[ ]?(?=["'])
    )
    """,
    re.ASCII,
)
"""What follows the telling part of a name: its rest, the quote that ends it, and a sign before the value."""

_SIGNS = "=:>\"'"
"""One of these is in every sign of `_AFTER_NAME`, or behind it; only options have blanks."""
_OPTION_BEGIN = re.compile(r"-(?<![a-z0-9_.-]-)-?[a-z]", re.ASCII)

_TYPE = re.compile(r"[ \t]*[A-Za-z_][\w.\[\]| ]{0,40}=[ \t]*", re.ASCII)
_QUOTED = re.compile(r"""[ \t]*+[bfruBFRU]{0,2}(?P<quote>\\{0,8}["'`])""")
_BARE = re.compile(
    r"""[ \t]*+(?:(?i:bearer|basic|token|digest)[ \t]++)?(?P<value>[^\s"'`,;&<>|\\(){}\[\]]++)""", re.ASCII
)
_VARIABLE = re.compile(r"""(?P<value>[^\s"'`;&<>|\\]++)""", re.ASCII)
_ELEMENT = re.compile(r"(?P<value>[^<>]{1,4096})(?=</)")
_QUOTES = ('"', "'", "`")
_OPTION = re.compile("--?[a-z]", re.ASCII)
_UNUSUAL = re.compile(r"[0-9!@#$%^*+?~]")

_SCHEME = re.compile(r"(?i)(?:bearer|basic)(?:[ \t+]|%20)++(?P<value>[A-Za-z0-9._~+/=-]{8,})")
_USERINFO = re.compile(r"""://(?P<value>[^\s/?#"'<>`\\]+)@""", re.ASCII)
_EXAMPLES = frozenset(["password", "pass", "passwd", "pwd", "secret", "pw"])
_CURL = re.compile(r"""(?:-u|--user|--proxy-user)[ =]?["']?[^\s:"']{1,128}:(?P<value>[^\s"']++)""", re.ASCII)
_NETRC = re.compile(r"login\s+\S{1,128}\s+password\s+(?P<value>\S++)", re.ASCII)
_VALUE = re.compile(r"""value["']?\s{0,8}[:=]\s{0,8}(?P<quote>["'])(?P<value>[^"'<>]{4,4096})(?P=quote)""")
_LABEL = re.compile(
    r"""(?:name|key|header|id)["']?\s{0,8}[:=]\s{0,8}["']([\w.-]{2,64})["'][^<>{}]{0,80}\Z""", re.ASCII
)


def assigned_spans(text: str) -> list[Span]:
    """The secrets in `text` that a name, a scheme or a URL gives away, in no particular order."""
    found: list[Span] = []
    for at in range(0, max(1, len(text) - OVERLAP), STEP):
        lower = _lowered(text[at : at + STEP + OVERLAP])
        names = _HINTS if _has_sign(lower) else _SCHEMES
        hints = [hint for hint in names if hint in lower]
        if hints or ("@" in lower and "://" in lower) or ("-" in lower and "curl" in lower):
            found += _in_window(text, at, lower, hints)
    return found


def _has_sign(lower: str) -> bool:
    """Whether `lower` has something that may stand between a name and its value: most prose has nothing."""
    if any(map(lower.__contains__, _SIGNS)) or "password" in lower:
        return True
    return "-" in lower and _OPTION_BEGIN.search(lower) is not None


def _lowered(text: str) -> str:
    """`text` in lower case, of the same length: one character has two of them in lower case."""
    return text.lower() if text.isascii() else text.replace("\u0130", "I").lower()


def _in_window(text: str, at: int, lower: str, hints: list[str]) -> Iterator[Span]:
    for stem in hints:
        if stem not in _SCHEMES:
            yield from _after_names(text, at, lower, stem)
    if not _SCHEMES.isdisjoint(hints):
        yield from (
            span for span in _spans(_SCHEME, text, at, len(lower)) if looks_random(text[slice(*span)])
        )
    if "://" in lower and "@" in lower:
        yield from (span for span in _spans(_USERINFO, text, at, len(lower)) if _is_login(text[slice(*span)]))
    if "curl" in lower:
        yield from (
            span for span in _spans(_CURL, text, at, len(lower)) if not is_reference(text[slice(*span)])
        )
    if "login" in lower and "password" in lower:
        yield from (
            span for span in _spans(_NETRC, text, at, len(lower)) if not is_reference(text[slice(*span)])
        )
    if "value" in lower:
        yield from _labelled(text, at, len(lower))


def _after_names(text: str, at: int, lower: str, stem: str) -> Iterator[Span]:
    """The secrets after names that have `stem` in them."""
    begin = lower.find(stem)
    while begin >= 0:
        end = begin + len(stem)
        match = _AFTER_NAME.match(lower, end)
        if match is not None:
            span = _named(text, at + begin, at + match.start("blank"), at + match.end(), match["sign"])
            if span is not None:
                yield span
                end = max(end, span[1] - at)
        begin = lower.find(stem, end)


def _spans(pattern: re.Pattern[str], text: str, at: int, length: int) -> Iterator[Span]:
    return (match.span("value") for match in pattern.finditer(text, at, min(len(text), at + length)))


def _is_login(userinfo: str) -> bool:
    user, colon, password = userinfo.partition(":")
    if not colon:
        return looks_random(user)
    return password.lower() not in _EXAMPLES and not is_reference(password)


def _labelled(text: str, at: int, length: int) -> Iterator[Span]:
    """Values of pairs such as `name="token" value="..."`."""
    for match in _VALUE.finditer(text, at, min(len(text), at + length)):
        label = _LABEL.search(text, max(0, match.start() - 200), match.start())
        if label is not None and is_secret_by(strength(label[1]), match["value"]):
            yield match.span("value")


def _named(text: str, begin: int, blank: int, value_at: int, sign: str) -> Span | None:
    """The secret after a name that ends at `blank`, and whose telling part begins at `begin`, if any."""
    head = text[max(0, begin - _LONGEST_HEAD) : begin]
    start = begin - (len(head) - len(head.rstrip(_NAME_CHARACTERS)))
    name = text[start:blank].rstrip("\\\"'`])")
    judged = strength(name)
    if judged < Strength.WEAK or (not sign and not _OPTION.match(name)):
        return None
    is_variable = sign == "=" and blank + 1 == value_at and not any(map(str.islower, name))
    before = text[start - 1] if start else ""
    span = _value(text, value_at, sign, is_variable)
    if span is None:
        return None
    if before in _QUOTES and before not in text[start + len(name) : blank] and text[span[0] - 1] == before:
        return None  # The quote is the end of a string that ends with a name, as in `input("Password: ")`.
    if not _is_secret(text, name, judged, sign, span, is_variable, before):
        return None
    return _whole(text, span)


def _whole(text: str, span: Span) -> Span:
    """`span`, or up to the next blank or quote if its end was not looked for so far."""
    if span[1] - span[0] < LONGEST_BARE - 64:
        return span
    match = _VARIABLE.match(text, span[1])
    return (span[0], match.end()) if match else span


def _value(text: str, at: int, sign: str, is_variable: bool) -> Span | None:
    """Where the value is that begins at `at`."""
    last = at + LONGEST_VALUE
    if sign == ":":
        typed = _TYPE.match(text, at, last)
        if typed is not None and _QUOTED.match(text, typed.end()):
            at = typed.end()
    if sign == ">":
        return _span(_ELEMENT.match(text, at, last))
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        end = text.find(quoted["quote"], quoted.end(), last)
        return (quoted.end(), end) if end >= 0 else _span(_BARE.match(text, quoted.end(), at + LONGEST_BARE))
    if sign in ("(", "==", "===") or sign.startswith(","):
        return None
    return _span((_VARIABLE if is_variable else _BARE).match(text, at, at + LONGEST_BARE))


def _span(match: re.Match[str] | None) -> Span | None:
    return None if match is None else match.span("value")


def _is_secret(
    text: str, name: str, judged: Strength, sign: str, span: Span, is_variable: bool, before: str
) -> bool:
    value = text[span[0] : span[1]]
    if not value.strip() or is_reference(value):
        return False
    if judged is not Strength.STRONG:
        return looks_random(value) or (
            before in ("?", "&") and bool(_UNUSUAL.search(value)) and len(value) > 5
        )
    if sign[0:1] in ("(", ","):
        return looks_random(value)
    is_quoted = text[span[0] - 1 : span[0]] in _QUOTES
    if is_quoted and (value[0] in "),;:]}" or "\n" in value):
        return False
    if is_quoted or sign == ">":
        return "{" not in value and not _describes(value, name) and len(value) > 3
    if text[span[1] : span[1] + 1] in ("(", "["):
        return False
    if is_variable or before == ";" or text[span[1] : span[1] + 1] == ";":
        return len(value) > 3 and "(" not in value and not _describes(value, name)
    if len(value) < 6 or _describes(value, name):
        return False
    return bool(_UNUSUAL.search(value)) or looks_random(value)


def _describes(value: str, name: str) -> bool:
    """Whether `value` is about the secret: it repeats its name (`password: The password`, `key=api_key`)."""
    words = words_of(name)[-1:]
    return bool(words) and words[0] in words_of(value) and not looks_random(value)
