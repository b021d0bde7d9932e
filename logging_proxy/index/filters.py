"""Parses the API's query parameters into `Filters`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from logging_proxy.index.columns import FIELDS, Field, Filter
from logging_proxy.index.values import Filters, microseconds

_STATUS = re.compile(r"([1-5])(?:xx|\d\d)", re.IGNORECASE | re.ASCII)
_ZONE_WITHOUT_PLUS = re.compile(r" (\d\d:?\d\d)$", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d", re.ASCII)

LONGEST = 1000
"""Maximum characters of a filter's value."""


class BadFilter(ValueError):
    """The value of the filter `name` is invalid."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def parse_filters(parameters: Mapping[str, str]) -> Filters:
    """
    The filters in the API's query parameters.  Empty values and unknown names are ignored.

    Raises `BadFilter` for an invalid value.
    """
    found: dict[str, Any] = {}
    for name, read in _READERS.items():
        value = parameters.get(name, "").strip()
        if len(value) > LONGEST:
            raise BadFilter(name, f"longer than {LONGEST} characters")
        if value:
            found[name] = read(name, value)
    return Filters(**found)


def _text(name: str, value: str) -> str:
    return value


def _upper(name: str, value: str) -> str:
    return value.upper()


def _status(name: str, value: str) -> int:
    match = _STATUS.fullmatch(value)
    if match is None:
        raise BadFilter(name, "neither a status such as 200 nor a class such as 4xx")
    return int(match[1]) if value.lower().endswith("xx") else int(value)


def _time(name: str, value: str) -> int:
    """A time in ISO 8601; local time if it has no zone, as in file names."""
    value = _ZONE_WITHOUT_PLUS.sub(r"+\1", value)
    try:
        return microseconds(datetime.fromisoformat(value))
    except (ValueError, OverflowError, OSError):
        raise BadFilter(name, "not a time in ISO 8601, such as 2025-09-13T02:11:09+02:00") from None


def _until(name: str, value: str) -> int:
    """The exclusive upper bound: a date alone means the end of that day."""
    if not _DATE.fullmatch(value):
        return _time(name, value)
    try:
        return microseconds(datetime.fromisoformat(value) + timedelta(days=1))
    except (ValueError, OverflowError, OSError):
        return _time(name, value)


def _flag(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadFilter(name, "neither true nor false")
    return value == "true"


def _number(name: str, value: str) -> int:
    if not _DIGITS.fullmatch(value):
        raise BadFilter(name, "not a whole number")
    return int(value)


def _reader(field: Field, filter: Filter) -> Callable[[str, str], Any]:
    if filter.classes:
        return _status
    if field.type is not str:
        return _flag if field.type is bool else _number
    return _upper if filter.upper else _text


_READERS: dict[str, Callable[[str, str], Any]] = {
    **{each.name: _reader(each, filter) for each in FIELDS if (filter := each.column.filter) is not None},
    "since": _time,
    "until": _until,
    "q": _text,
}
