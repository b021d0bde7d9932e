"""Formats times, durations and sizes for people."""

from __future__ import annotations

import re
from datetime import datetime

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
