"""
Lenient access to JSON values from the wire.

Providers and compatible servers leave members out, and send null or other types in their place.  These
functions return an empty value or None instead of raising.
"""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str, default: Any = None) -> Any:
    """The value of a JSON text; `default` if it is none, or too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return default


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """The objects in a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def word(value: Any) -> str | None:
    """A string that is not empty."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> int | None:
    """A count.  Some providers send counts as floating-point numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value == value and abs(value) < 2**53 else None


def total(*values: int | None) -> int | None:
    """The sum of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def as_text(value: Any) -> str:
    """A string as it is, anything else as JSON: arguments of tool calls are sent in both forms."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
