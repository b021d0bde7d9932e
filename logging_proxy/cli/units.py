"""Formats times, durations and sizes for people, and parses the times that people type."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from logging_proxy.service.figures import size as size

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)", re.ASCII | re.IGNORECASE)


def duration(milliseconds: float) -> str:
    """`0.03 ms`, `4.1 ms`, `412 ms`, `1.24 s`, `2 min 03 s`, `1 h 02 min`."""
    if milliseconds < 0.995:
        return f"{milliseconds:.2f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


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
