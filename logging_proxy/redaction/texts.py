"""
Finds and removes the secrets in a text that has no structure of its own.

Escapes are looked through (`\\u002d`, `\\/`, `\\"`, `%2D`, several times over): a text may be part of JSON or
of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from logging_proxy.redaction.assignments import assigned_spans
from logging_proxy.redaction.forms import Span, form_spans
from logging_proxy.redaction.values import REDACTED

_ESCAPE = re.compile(
    r"(?<!\\)\\++(?:u00(?P<code>[0-7][0-9a-fA-F])|(?P<sign>[\"'/`nrt]))|%(?:25)*(?P<percent>[0-7][0-9a-fA-F])"
)
_MEANINGS = {"n": "\n", "r": "\r", "t": "\t"}


_HINT = re.compile(
    r"""[=:>]|[(,] ?["']|-[a-z]|[A-Za-z0-9_+/~.-]{16}|(?i:(?:earer|asic|login)\s)|[\\%]""", re.ASCII
)
"""Something that every secret has, or has before it."""
_SHORT = 48
"""Characters of a text in which a hint is looked for first; longer ones nearly always have one."""


def secret_spans(text: str) -> list[Span]:
    """Where the secrets of `text` are, sorted and without overlaps."""
    if len(text) < _SHORT and not _HINT.search(text):
        return []
    found = _all_spans(text)
    if "\\" in text or "%" in text:
        found += _behind_escapes(text, _all_spans)
    return joined(found) if found else found


def redact_text(text: str) -> str:
    """`text` without the secrets that their form or a name before them gives away."""
    spans = secret_spans(text)
    return without(text, spans) if spans else text


def joined(spans: Iterable[Span]) -> list[Span]:
    """`spans` sorted; those that overlap or touch become one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def without(text: str, spans: Iterable[Span]) -> str:
    """`text` with `REDACTED` in place of `spans`, which are sorted and do not overlap."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], REDACTED]
        done = end
    return "".join([*parts, text[done:]])


def redact_forms(text: str) -> str:
    """`text` without the secrets that their form alone gives away."""
    found = form_spans(text)
    if "\\" in text or "%" in text:
        found += _behind_escapes(text, form_spans)
    return without(text, joined(found)) if found else text


def _all_spans(text: str) -> list[Span]:
    return form_spans(text) + assigned_spans(text)


def _behind_escapes(text: str, spans_in: Callable[[str], list[Span]]) -> list[Span]:
    """The secrets that show when the escapes are taken away."""
    plain = _ESCAPE.sub(_meaning, text)
    if len(plain) == len(text):
        return []
    spans = joined(spans_in(plain))
    return list(_before_unescaping(text, spans)) if spans else []


def _meaning(match: re.Match[str]) -> str:
    if match["sign"]:
        return _MEANINGS.get(match["sign"], match["sign"])
    return chr(int(match["code"] or match["percent"], 16))


def _before_unescaping(text: str, spans: list[Span]) -> Iterator[Span]:
    """The places in `text` of `spans` in what is left of it without its escapes."""
    escapes = _ESCAPE.finditer(text)
    escape = next(escapes, None)
    grown = 0
    for span in spans:
        ends = []
        for place in span:
            while escape is not None and escape.end() - (len(escape[0]) - 1) - grown <= place:
                grown += len(escape[0]) - 1
                escape = next(escapes, None)
            ends.append(place + grown)
        yield ends[0], ends[1]
