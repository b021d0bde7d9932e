"""Formats times, durations and sizes for people."""

from __future__ import annotations

from datetime import datetime

from logging_proxy.understanding.quantities import duration, size

__all__ = ["duration", "local_time", "size"]


def local_time(text: object, digits: int = 0) -> str:
    """An ISO 8601 time in the local zone with `digits` fractional digits; `-` if it is not a time."""
    try:
        time = datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return "-"
    fraction = f".{time.microsecond:06}"[: digits + 1] if digits else ""
    return time.strftime("%Y-%m-%d %H:%M:%S") + fraction
