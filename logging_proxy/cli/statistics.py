"""Statistics of many exchanges: number, size, duration."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from logging_proxy.cli import units
from logging_proxy.cli.paint import Paint
from logging_proxy.cli.sources import Document
from logging_proxy.cli.tables import Cell, Column, cell, half_bytes, outcome_style, outcome_words, table

GROUPS = ("route", "outcome", "status", "model")
VALUES = 30
"""Maximum number of values shown per group; the others are combined."""

_FIXED = (
    Column("EXCHANGES", right=True),
    Column("SENT", right=True, least=7),
    Column("RECEIVED", right=True, least=8),
    Column("P50", right=True, least=7),
    Column("P95", right=True, least=7),
)


@dataclass(slots=True)
class Group:
    """The totals of a group of exchanges."""

    exchanges: int = 0
    sent: int = 0
    received: int = 0
    times: array[float] = field(default_factory=lambda: array("d"))
    """Durations of finished exchanges, in milliseconds."""

    def add(self, row: Document) -> None:
        self.exchanges += 1
        self.sent += half_bytes(row, "request")
        self.received += half_bytes(row, "response")
        if row.get("outcome") is not None:
            self.times.append(float(row.get("processing_time_ms") or 0))

    def merge(self, other: Group) -> None:
        self.exchanges += other.exchanges
        self.sent += other.sent
        self.received += other.received
        self.times.extend(other.times)


@dataclass(slots=True)
class Statistics:
    """Totals of all added exchanges, and of those with each value of `GROUPS`."""

    total: Group = field(default_factory=Group)
    heads: array[float] = field(default_factory=lambda: array("d"))
    """Times to the response heads, in milliseconds."""
    groups: dict[str, dict[Any, Group]] = field(default_factory=lambda: {name: {} for name in GROUPS})
    oldest: str | None = None
    newest: str | None = None

    def add(self, row: Document) -> None:
        """Add a row; rows are added newest first."""
        self.total.add(row)
        if row.get("response_head_ms") is not None:
            self.heads.append(float(row["response_head_ms"]))
        for name, group in self.groups.items():
            group.setdefault(row.get(name), Group()).add(row)
        self.oldest = row.get("started_at")
        self.newest = self.newest or self.oldest

    def document(self) -> Document:
        """The statistics as a JSON object."""
        return {
            "oldest": self.oldest,
            "newest": self.newest,
            **_numbers(self.total),
            "response_head_ms": _percentiles(self.heads),
            **{
                name: [{"value": value, **_numbers(group)} for value, group in _by_number(groups)]
                for name, groups in self.groups.items()
            },
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


def _percentiles(values: Sequence[float]) -> Document:
    return {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}


def _numbers(group: Group) -> Document:
    return {
        "exchanges": group.exchanges,
        "request_bytes": group.sent,
        "response_bytes": group.received,
        "processing_time_ms": _percentiles(group.times),
    }


def _by_number(groups: dict[Any, Group]) -> list[tuple[Any, Group]]:
    return sorted(groups.items(), key=lambda pair: (-pair[1].exchanges, str(pair[0])))


def statistics_lines(statistics: Statistics, paint: Paint, most: int | None = None) -> Iterator[str]:
    """The statistics as text."""
    total = statistics.total
    if not total.exchanges:
        yield "No exchanges."
        return
    yield (
        f"{paint(f'{total.exchanges:,} exchanges', 'bold')}"
        f", {units.local_time(statistics.oldest)} to {units.local_time(statistics.newest)}"
    )
    yield f"sent {units.size(total.sent)}, received {units.size(total.received)}"
    yield f"time to the response's head: {_times(statistics.heads)}"
    yield f"time to the end: {_times(total.times)}"
    for name, groups in statistics.groups.items():
        yield ""
        rows = [_cells(name, value, group) for value, group in _shown(groups)]
        yield from table((Column(name.upper(), least=12), *_FIXED, Column("")), rows, paint, most)


def _shown(groups: dict[Any, Group]) -> list[tuple[Any, Group]]:
    ordered = _by_number(groups)
    if len(ordered) <= VALUES:
        return ordered
    rest = Group()
    for _, group in ordered[VALUES:]:
        rest.merge(group)
    return [*ordered[:VALUES], (f"{len(ordered) - VALUES} more", rest)]


def _cells(name: str, value: Any, group: Group) -> list[Cell]:
    style = outcome_style(value) if name == "outcome" else ""
    return [
        (outcome_words(value) if name == "outcome" else cell(value), style),
        (f"{group.exchanges:,}", ""),
        (units.size(group.sent), ""),
        (units.size(group.received), ""),
        (_time(percentile(group.times, 0.5)), ""),
        (_time(percentile(group.times, 0.95)), ""),
        ("", ""),
    ]


def _times(values: Sequence[float]) -> str:
    return f"p50 {_time(percentile(values, 0.5))}, p95 {_time(percentile(values, 0.95))}"


def _time(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else units.duration(milliseconds)
