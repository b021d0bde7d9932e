"""Durations, sizes and counts as people read them."""

from __future__ import annotations

from logging_proxy.service.figures import size as size


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


def counted(number: int, one: str, many: str = "") -> str:
    """`1 event`, `412 events`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
