"""
Metrics in Prometheus' text format.

Values are counted in the storage thread and read in any; each series is one
value in a dictionary, so that a reader sees every value whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MOST_SERIES = 2000
"""Most series of one metric; further label values, which clients may invent, count as `other`."""

OTHER = "other"

Labels = tuple[str, ...]


@dataclass(slots=True)
class Counter:
    """A metric that only grows."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, amount: float, *labels: str) -> None:
        try:
            self.values[labels] += amount
        except KeyError:
            labels = _bounded(self.values, labels)
            self.values[labels] = self.values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        yield from _heading(self.name, "counter", self.help)
        for labels, value in list(self.values.items()):
            yield _line(self.name, zip(self.labels, labels, strict=True), value)


@dataclass(slots=True)
class Histogram:
    """A metric that counts observations by size."""

    name: str
    help: str
    buckets: Sequence[float]
    labels: Labels = ()
    values: dict[Labels, list[float]] = field(default_factory=dict)
    """Counts of the buckets, not cumulative, the count beyond the last one, and the sum."""

    def observe(self, value: float, *labels: str) -> None:
        counts = self.values.get(labels)
        if counts is None:
            labels = _bounded(self.values, labels)
            counts = self.values.setdefault(labels, [0.0] * (len(self.buckets) + 2))
        counts[bisect_left(self.buckets, value)] += 1
        counts[-1] += value

    def lines(self) -> Iterator[str]:
        yield from _heading(self.name, "histogram", self.help)
        for labels, counts in list(self.values.items()):
            *counts, total = list(counts)
            named = list(zip(self.labels, labels, strict=True))
            so_far = 0.0
            for bound, count in zip([*map(_number, self.buckets), "+Inf"], counts, strict=True):
                so_far += count
                yield _line(f"{self.name}_bucket", [*named, ("le", bound)], so_far)
            yield _line(f"{self.name}_sum", named, total)
            yield _line(f"{self.name}_count", named, so_far)


def gauge(
    name: str, help: str, values: Mapping[Labels, float] | float, labels: Labels = (), kind: str = "gauge"
) -> Iterator[str]:
    """The lines of a metric whose value is kept elsewhere; of a counter if `kind` says so."""
    if not isinstance(values, Mapping):
        values = {(): values}
    yield from _heading(name, kind, help)
    for given, value in values.items():
        yield _line(name, zip(labels, given, strict=True), value)


def text(lines: Iterable[str]) -> bytes:
    """The whole exposition."""
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _bounded(values: Mapping[Labels, object], labels: Labels) -> Labels:
    return labels if labels in values or len(values) < MOST_SERIES else (OTHER,) * len(labels)


def _heading(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    shown = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    return f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
