"""Parses the API's query parameters into `Filters`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from logging_proxy.index.columns import FILTERS, OUTCOMES, Filter
from logging_proxy.index.values import Filters, microseconds

_STATUS = re.compile(r"([1-5])(?:xx|\d\d)", re.IGNORECASE | re.ASCII)
_ZONE_WITHOUT_PLUS = re.compile(r" (\d\d:?\d\d)$", re.ASCII)
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d", re.ASCII)

LONGEST = 1000
"""Maximum characters of a filter's value."""


class BadFilter(ValueError):
    """The value of the filter `name` is invalid; `known` are the valid ones, where those can be told."""

    def __init__(self, name: str, reason: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known = tuple(known)
        self.reason = f"{reason}; known {name}s: {_listed(self.known)}" if self.known else reason
        super().__init__(f"{name}: {self.reason}")


def parse_filters(parameters: Mapping[str, str]) -> Filters:
    """
    The filters in the API's query parameters.  Empty values and other parameters are ignored.

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


def _outcome(name: str, value: str) -> str:
    if value not in OUTCOMES:
        raise BadFilter(name, "no outcome", OUTCOMES)
    return value


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


def _reader(filter: Filter) -> Callable[[str, str], Any]:
    if filter.classes:
        return _status
    return _upper if filter.upper else _text


_READERS: dict[str, Callable[[str, str], Any]] = {
    **{name: _reader(filter) for name, filter in FILTERS.items()},
    "outcome": _outcome,
    "since": _time,
    "until": _until,
    "q": _text,
}

PARAMETERS = frozenset({*_READERS, "since", "until"})
"""The names of all filters as parameters."""

MOST_KNOWN = 20
"""Known values that an error names."""


def check_route(filters: Filters, known: Iterable[str]) -> None:
    """
    Raise `BadFilter` if the filters ask for a route that is not among `known`, those that have captures or
    are configured.  To be called when nothing is found; where no route is known, none is wrong.
    """
    asked, names = filters.where.get("route"), sorted(filter(None, known))
    if asked is not None and names and asked not in names:
        raise BadFilter("route", "there is no such route", names)


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_KNOWN} more"] if len(names) > MOST_KNOWN else []
    return ", ".join([*names[:MOST_KNOWN], *more])
