"""Parses the API's query parameters into `Filters`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from logging_proxy.index.columns import FIELDS, Field, Filter
from logging_proxy.index.times import LOCAL, BadTime, parse_time
from logging_proxy.index.values import Filters, is_id_prefix

_STATUS = re.compile(r"([1-5])(?:xx|\d\d)", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)

TIMES = ("since", "until")
"""The filters that bound the start."""

LONGEST = 1000
"""Maximum characters of a filter's value."""


class BadFilter(ValueError):
    """The value of the filter `name` is invalid."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def parse_filters(
    parameters: Mapping[str, str], now: datetime | None = None, zone: tzinfo = LOCAL
) -> Filters:
    """
    The filters in the API's query parameters.  Empty values and unknown names are ignored.

    Times are as in `parse_time`; `until` is exclusive, and with a day alone means the end of that day.
    Raises `BadFilter` for an invalid value.
    """
    found: dict[str, Any] = {}
    for name, read in _READERS.items():
        if value := _given(parameters, name):
            found[name] = read(name, value)
    for name in TIMES:
        if value := _given(parameters, name):
            found[name] = read_time(name, value, now or datetime.now(UTC), zone)
    return Filters(**found)


def _given(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name, "").strip()
    if len(value) > LONGEST:
        raise BadFilter(name, f"longer than {LONGEST} characters")
    return value


def read_time(name: str, value: str, now: datetime, zone: tzinfo = LOCAL) -> int:
    """The value of `since` or `until`.  Raises `BadFilter`."""
    try:
        return parse_time(value, now, zone, end=name == "until")
    except BadTime as error:
        raise BadFilter(name, str(error)) from None


def _text(name: str, value: str) -> str:
    return value


def _upper(name: str, value: str) -> str:
    return value.upper()


def _status(name: str, value: str) -> int:
    match = _STATUS.fullmatch(value)
    if match is None:
        raise BadFilter(name, "neither a status such as 200 nor a class such as 4xx")
    return int(match[1]) if value.lower().endswith("xx") else int(value)


def _id(name: str, value: str) -> str:
    if not is_id_prefix(value.lower()):
        raise BadFilter(name, "not the beginning of an id, which consists of hex digits")
    return value.lower()


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
    "id": _id,
    "q": _text,
}
