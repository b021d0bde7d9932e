"""Sizes and durations as people read them, and the columns that text takes on a terminal."""

from __future__ import annotations

import unicodedata


def size(count: int) -> str:
    """Bytes: `999 B`, `1.2 kB`, `45 MB`."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} TB"


def elapsed(seconds: float) -> str:
    """A duration in a few characters: `0.4 ms`, `352 ms`, `7.9 s`, `2 min 03 s`, `1 h 02 min`."""
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def width(text: str) -> int:
    """Number of terminal columns that printable `text` occupies."""
    return len(text) if text.isascii() else sum(map(columns_of, text))


def columns_of(character: str) -> int:
    """Number of terminal columns that a printable character occupies."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut_middle(text: str, columns: int) -> str:
    """`text`, with an ellipsis in place of its middle if it is too wide."""
    if width(text) <= columns:
        return text
    half = max(columns - 1, 0) // 2
    start, end = _fitting(text, max(columns - 1, 0) - half), _fitting(text[::-1], half)
    return f"{start}…{end[::-1]}" if columns > 0 else ""


def _fitting(text: str, columns: int) -> str:
    """The beginning of `text` that fits."""
    used = 0
    for at, character in enumerate(text):
        used += columns_of(character)
        if used > columns:
            return text[:at]
    return text
