"""
Parses points in time as people and programs write them: `2h`, `yesterday 14:00`, ISO 8601.

The present time and the zone are passed in.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from logging_proxy.index.values import microseconds

EXAMPLES = "2h, 90m, 1 day, 10:30, yesterday 14:00, 2026-11-30, 2026-11-30T14:00:00+01:00"

LONGEST = 100
"""Maximum characters of a time."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LENGTH = re.compile(
    r"(\d{1,9}(?:\.\d{1,6})?|an?)\s*"
    r"(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?)"
    r"(?![a-z])[\s,]*",
    re.ASCII,
)
_DAYS = {"today": 0, "yesterday": 1}
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d{1,6})?)?", re.ASCII)
_EPOCH = re.compile(r"@?(\d{9,10})(?:\.\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d", re.ASCII)
_LOST_PLUS = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)", re.ASCII)
"""A zone whose plus a query has turned into a space."""


class BadTime(ValueError):
    """The text is not a time; the message has examples."""

    def __init__(self) -> None:
        super().__init__(f"not a time; examples: {EXAMPLES}")


class LocalZone(tzinfo):
    """The zone of this machine, as of the process's environment."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: datetime) -> datetime:
        return when.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


LOCAL = LocalZone()


def parse_time(text: str, now: datetime, zone: tzinfo = LOCAL, end: bool = False) -> int:
    """
    The point in time in `text`, in microseconds since 1970.

    It is a length before `now` (`2h`, `1 day`, `2 hours ago`), a time of today (`10:30`), a day with or without
    a time (`yesterday 14:00`, `2026-11-30`), ISO 8601, or seconds since 1970.  Without a zone in it, it is local
    to `zone`.  A day alone is its start, or with `end` its end.  Raises `BadTime`.
    """
    word = " ".join(text.lower().split())
    if not word or len(word) > LONGEST:
        raise BadTime
    try:
        return microseconds(_found(word, now, zone, end))
    except (ValueError, OverflowError, OSError):
        raise BadTime from None


def _found(word: str, now: datetime, zone: tzinfo, end: bool) -> datetime:
    if word == "now":
        return now
    if match := _EPOCH.fullmatch(word):
        return datetime.fromtimestamp(int(match[1]), UTC)
    today = now.astimezone(zone).date()
    first, _, rest = word.partition(" ")
    if first in _DAYS:
        day = today - timedelta(days=_DAYS[first])
        return _at(day, rest.removeprefix("at "), zone) if rest else _day(day, zone, end)
    if _CLOCK.fullmatch(word):
        return _at(today, word, zone)
    length = _length(word.removesuffix(" ago"))
    if length is not None:
        return now.astimezone(UTC) - length
    if _DATE.fullmatch(word):
        return _day(date.fromisoformat(word), zone, end)
    found = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", word.upper()))
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _day(day: date, zone: tzinfo, end: bool) -> datetime:
    return datetime.combine(day + timedelta(days=end), time(), zone)


def _at(day: date, clock: str, zone: tzinfo) -> datetime:
    match = _CLOCK.fullmatch(clock)
    if match is None:
        raise BadTime
    return datetime.combine(day, time(int(match[1]), int(match[2]), int(match[3] or 0)), zone)


def _length(text: str) -> timedelta | None:
    """The sum of lengths such as `1 day, 2 hours`; None if `text` is something else."""
    seconds, at = 0.0, 0
    while match := _LENGTH.match(text, at):
        count = 1.0 if match[1].startswith("a") else float(match[1])
        seconds += count * _UNITS[match[2][0]]
        at = match.end()
    return timedelta(seconds=seconds) if at and at == len(text) else None
