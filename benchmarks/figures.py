"""Formats numbers for tables and pictures."""

from __future__ import annotations


def number(value: float) -> str:
    """Up to three significant digits, with commas between thousands."""
    size = abs(value)
    digits = 0 if size >= 99.5 or size == 0 else 1 if size >= 9.95 else 2
    return f"{value:,.{digits}f}"


def byte_count(count: int) -> str:
    """A number of bytes that is a power of two, with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"


def duration(ns: float) -> str:
    for unit, scale in (("ns", 1.0), ("µs", 1e3)):
        if ns < 1000 * scale:
            return f"{number(ns / scale)} {unit}"
    return f"{number(ns / 1e6)} ms"
