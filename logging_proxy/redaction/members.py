"""Judges the members of parsed JSON: by their names, and by what their values are made of."""

from __future__ import annotations

from typing import Any

from logging_proxy.redaction.names import Strength, strength, words_of
from logging_proxy.redaction.values import is_secret_by, looks_random

SCHEMA = frozenset(
    """
    $ref additionalProperties allOf anyOf const default deprecated description enum example examples format
    items maxItems maxLength maximum minItems minLength minimum not nullable oneOf pattern properties readOnly
    required title type uniqueItems writeOnly
    """.split()
)
"""Members of a schema: an object that has no other ones describes a secret, and is none."""

EXAMPLES = frozenset(["const", "default", "example", "examples"])
"""Members of a schema that may hold values."""

LABELS = frozenset(["field", "header", "k", "key", "name", "param", "parameter", "variable"])
VALUES = frozenset(["stringValue", "v", "val", "value", "values"])
"""Members of a pair of a name and a value: `{"name": "Authorization", "value": "..."}`."""

_DESCRIBING = frozenset(["id", "ids", "kind", "model", "name", "object", "type", "url"])

_ITEMS, _LEVELS = 64, 3
"""How many items, and levels below a name, are looked at."""


def is_describing(name: str) -> bool:
    """Whether a member tells what something is: it stays readable below a name that may be a secret's."""
    return bool(words := words_of(name)) and words[-1] in _DESCRIBING


def is_schema(value: dict[str, Any]) -> bool:
    """Whether an object describes values instead of having any."""
    return bool(value) and SCHEMA.issuperset(value)


def is_secret_member(name: str, value: Any) -> bool:
    """Whether the value of the member `name` of an object is a secret, or holds one, by its name."""
    judged = strength(name)
    if judged < Strength.WEAK:
        return False
    if isinstance(value, str):
        return is_secret_by(judged, value, name)
    if isinstance(value, dict) and is_schema(value):
        return any(_holds_random(value[each], _LEVELS) for each in EXAMPLES.intersection(value))
    if judged is Strength.STRONG:
        return not isinstance(value, bool) and value is not None
    return _holds_random(value, _LEVELS)


def _holds_random(value: Any, levels: int) -> bool:
    if isinstance(value, str):
        return looks_random(value)
    if not levels:
        return isinstance(value, (dict, list))
    if isinstance(value, list):
        return any(_holds_random(item, levels - 1) for item in value[:_ITEMS])
    if isinstance(value, dict):
        members = list(value.items())[:_ITEMS]
        return any(_holds_random(item, levels - 1) for name, item in members if not is_describing(name))
    return False


def secret_of_pair(value: dict[str, Any]) -> str:
    """The member with the secret that another one names (`{"name": "token", "value": "..."}`), or ''."""
    for label in LABELS.intersection(value):
        named = value[label]
        judged = strength(named) if isinstance(named, str) else Strength.NONE
        for name in VALUES.intersection(value) if judged >= Strength.WEAK else ():
            if not isinstance(value[name], str) or is_secret_by(judged, value[name]):
                return name
    return ""


def is_secret_item(items: list[Any]) -> bool:
    """Whether a list is a name and a secret, as heads are often written: `["Authorization", "..."]`."""
    if len(items) != 2 or not (isinstance(items[0], str) and isinstance(items[1], str)):
        return False
    return strength(items[0]) >= Strength.WEAK and looks_random(items[1])
