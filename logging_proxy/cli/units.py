"""Formats times, durations and sizes for people, and parses the times that people type."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from logging_proxy.understanding.quantities import duration, size

__all__ = ["duration", "local_time", "size", "typed_time"]

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)", re.ASCII | re.IGNORECASE)


def local_time(text: object, digits: int = 0) -> str:
    """An ISO 8601 time in the local zone with `digits` fractional digits; `-` if it is not a time."""
    try:
        time = datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return "-"
    fraction = f".{time.microsecond:06}"[: digits + 1] if digits else ""
    return time.strftime("%Y-%m-%d %H:%M:%S") + fraction


def typed_time(text: str, now: datetime) -> str:
    """
    Convert a time as people type it to the API's format.

    `2h`, `30min`, `today` and `yesterday` are relative to `now`; everything else is returned unchanged.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word == "today":
        return midnight.isoformat()
    if word == "yesterday":
        return (midnight - timedelta(days=1)).isoformat()
    match = _AGO.fullmatch(word.removesuffix("ago").rstrip())
    if match is None:
        return text
    try:
        return (now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])).isoformat()
    except OverflowError:
        return text
