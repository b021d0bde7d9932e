"""
Extracts the strings of JSON values, in order: alone for the full-text index, with their paths for streams.

JSON that is truncated, malformed, too large or too deep yields its strings too.  Values of members whose
names mark a secret are omitted.

JSON is often the content of a string: arguments and results of tools.  Such strings are read as well
(`expanded`), because their words are joined to escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from logging_proxy.redaction.members import is_secret_item, is_secret_member, secret_of_pair
from logging_proxy.redaction.names import Strength, strength
from logging_proxy.redaction.values import is_secret_by
from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.clean_text import without_blob

JSON_LIMIT = 16 << 20
"""Longer JSON is scanned for strings without parsing.  Requests with pictures have several MiB."""

MOST_VALUES = 200_000
"""Maximum number of values in JSON that is parsed; it bounds memory and time."""

DEEPEST = 64
"""Levels walked by recursion; deeper levels use an explicit stack."""

LONGEST_PATH = 24
"""Maximum names in a path; deeper names are dropped."""

MOST_NAMES, LONGEST_NAME = 4096, 128
"""Limits on the cache of member names: entries, and characters of each."""

_JSON_STRING = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)("(?:\s*+:)?|$)', re.DOTALL)
"""Possessive quantifiers: a backtracking match would store a state for every escape."""


_scan_once = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_JSON_SPACE = " \t\n\r"

_POSITIONS = ("index", "output_index", "content_index", "summary_index")
_ANY_POSITION = frozenset(_POSITIONS)


def is_plain(text: str) -> bool:
    """Whether no string of the JSON `text` contains a control character; only an escape can represent one."""
    return "\\" not in text or not ("\\u" in text or "\\b" in text or "\\f" in text)


def parse(text: str) -> Any:
    """The value of a JSON text; None if it is not JSON, too large, too deep or has too many values."""
    if len(text) > JSON_LIMIT or (len(text) > MOST_VALUES and _count_values(text) > MOST_VALUES):
        return None
    text = text.strip(_JSON_SPACE)
    try:
        value, end = _scan_once(text, 0)
    except (ValueError, RecursionError, StopIteration):
        return None
    return value if end == len(text) else None


def _count_values(text: str) -> int:
    """An upper bound on the number of values in a JSON text, far cheaper than parsing."""
    return text.count(",") + text.count("[") + text.count("{")


def string_literals(text: str, allowance: Allowance) -> Iterator[str]:
    """The string values in complete or truncated JSON, without member names, within `allowance`."""
    judged = Strength.NONE
    # After a lone backslash at the end the pattern would be retried from every escaped quote.
    for match in _JSON_STRING.finditer(text.rstrip("\\")):
        string, end = match[1], match[2]
        if not allowance.spend(len(string)):
            return
        if end.endswith(":"):
            judged = strength(string)
            continue
        value = _unescaped(string)
        if judged < Strength.WEAK or not is_secret_by(judged, value):
            yield without_blob(value)
        judged = Strength.NONE


def _unescaped(literal: str) -> str:
    if "\\" not in literal:
        return literal
    try:
        return str(json.loads(f'"{literal}"', strict=False))
    except ValueError:
        return literal.replace("\\n", "\n").replace('\\"', '"')


def all_strings(value: Any, allowance: Allowance | None = None) -> list[str]:
    """The non-empty strings of `strings`, without paths and `expanded`; much cheaper."""
    found: list[str] = []
    _collect_strings(value, found, DEEPEST)
    return expanded(found, allowance or Allowance())


def _collect_strings(value: Any, found: list[str], levels: int) -> None:
    if isinstance(value, str):
        if value and (string := without_blob(value)):
            found.append(string)
    elif not levels:
        found += [string for _, string in _deep_strings(value, ()) if string]
    elif isinstance(value, dict):
        hidden = _hidden_member(value)
        for name, member in value.items():
            if _is_told(name, member) and name != hidden:
                _collect_strings(member, found, levels - 1)
    elif isinstance(value, list):
        for item in _told_items(value):
            _collect_strings(item, found, levels - 1)


def _is_told(name: str, member: Any) -> bool:
    """Whether to read a member: it can hold strings, and it is no secret by its name."""
    return isinstance(member, (str, dict, list)) and (name in _public or not _is_secret(name, member))


def _hidden_member(value: dict[str, Any]) -> str:
    """The member that another one names as a secret."""
    return secret_of_pair(value) if "value" in value or "val" in value or "v" in value else ""


def _told_items(value: list[Any]) -> list[Any]:
    """The items of a list, except a secret after its name."""
    return value[:1] if len(value) == 2 and is_secret_item(value) else value


_public: set[str] = set()
"""Cache of member names that are known not to be secret."""


def _is_secret(name: str, member: Any) -> bool:
    if name in _public:
        return False
    if strength(name) >= Strength.WEAK:
        return is_secret_member(name, member)
    if len(_public) < MOST_NAMES and len(name) <= LONGEST_NAME:
        _public.add(name)
    return False


# --- JSON in strings ---------------------------------------------------------------

_OPENING = frozenset('{[" \t\r\n')
_BRACKET = re.compile(r'\s*[\[{"]')
_LIKE_JSON = re.compile(r'\s*(?:\[\s*)*\{\s*"|\s*\[\s*"')
"""The beginning of JSON that perhaps cannot be parsed: it is cut, or other text follows."""


def expanded(strings: list[str], allowance: Allowance) -> list[str]:
    """
    `strings`, with those that are JSON replaced by the names, strings and numbers in it.

    Once `allowance` is spent, strings that begin like JSON are omitted: there may be secrets in them.
    The levels are few: each has twice the backslashes of the one around it.
    """
    if not any([string[:1] in _OPENING for string in strings]):
        return strings
    found: list[str] = []
    for string in strings:
        if string[:1] in _OPENING and _BRACKET.match(string):
            found += _expanded(string, allowance)
        else:
            found.append(string)
    return found


def _expanded(string: str, allowance: Allowance) -> list[str]:
    is_like_json = _LIKE_JSON.match(string) is not None
    if not allowance.spend(len(string)):
        return [] if is_like_json else [string]
    value = parse(string)
    if value is not None:
        return expanded(_words_of(value), allowance)
    return [_without_escapes(string, allowance)] if is_like_json else [string]


def _words_of(value: Any) -> list[str]:
    """The names, strings and numbers in a JSON value, in order, except what is secret."""
    found: list[str] = []
    stack: list[Any] = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if value := without_blob(value):
                found.append(value)
        elif isinstance(value, list):
            stack += reversed(_told_items(value))
        elif isinstance(value, dict):
            hidden = _hidden_member(value)
            for name, member in reversed(value.items()):
                if name != hidden and not _is_secret(name, member):
                    stack.append(member)
                stack.append(name)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(str(value))
    return found


def _without_escapes(text: str, allowance: Allowance) -> str:
    """`text`, of which a part is JSON, with what the escapes in its strings stand for, within `allowance`."""
    judged = Strength.NONE
    pieces: list[str] = []
    at = 0
    for match in _JSON_STRING.finditer(text.rstrip("\\")):
        string, end = match[1], match[2]
        if not allowance.spend(len(string)):
            return "".join(pieces)
        pieces.append(text[at : match.start()])
        at = match.end()
        is_secret = False
        if end.endswith(":"):
            judged = strength(string)
        elif judged >= Strength.WEAK:
            is_secret = is_secret_by(judged, _unescaped(string))
            judged = Strength.NONE
        pieces.append(" " if is_secret else f'"{_unescaped(string)}{end}' if "\\" in string else match[0])
    return "".join([*pieces, text[at:]])


# --- with paths --------------------------------------------------------------------

Path = tuple[str, ...]


def strings(value: Any) -> list[tuple[Path, str]]:
    """
    Every string in a JSON value, in order, with its path; the values of secret members are omitted.

    A path has at most `LONGEST_PATH` names, because one is kept for every string.
    """
    found: list[tuple[Path, str]] = []
    _collect(value, (), found, DEEPEST)
    return found


def _collect(value: Any, path: Path, found: list[tuple[Path, str]], levels: int) -> None:
    if isinstance(value, str):
        found.append((path, without_blob(value)))
    elif not levels:
        found += _deep_strings(value, path)
    elif isinstance(value, dict):
        here = path if _ANY_POSITION.isdisjoint(value) else _position(value, path)
        is_full = len(here) >= LONGEST_PATH
        hidden = _hidden_member(value)
        for name, member in value.items():
            if _is_told(name, member) and name != hidden:
                _collect(member, here if is_full else (*here, name), found, levels - 1)
    elif isinstance(value, list):
        for item in _told_items(value):
            _collect(item, path, found, levels - 1)


def _position(value: dict[str, Any], path: Path) -> Path:
    """`path` extended by the position members of `value`, which tell parallel items apart."""
    for name in _POSITIONS:
        if isinstance(value.get(name), int) and len(path) < LONGEST_PATH:
            path = (*path, str(value[name]))
    return path


def _deep_strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Like `strings`, without recursion, for the levels below `DEEPEST`; slower."""
    stack: list[tuple[Path, Any]] = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str):
            yield path, without_blob(value)
        elif isinstance(value, dict):
            path = _position(value, path)
            is_full = len(path) >= LONGEST_PATH
            hidden = _hidden_member(value)
            stack += [
                (path if is_full else (*path, name), member)
                for name, member in reversed(value.items())
                if _is_told(name, member) and name != hidden
            ]
        elif isinstance(value, list):
            stack += [(path, item) for item in reversed(_told_items(value))]
