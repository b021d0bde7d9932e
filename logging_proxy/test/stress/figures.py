"""The figures of a fault test: measured values, their criteria and the verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table; `passed` is None for a value without a criterion."""

    name: str
    value: str
    criterion: str
    passed: bool | None
    measured: bool = False
    """Whether the value depends on load (times, sizes), so that it is judged on an idle machine only."""

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "-"}[self.passed]
        return f"{self.name:<52} {self.value:>16}  {self.criterion:<22} {verdict}"


def exactly(name: str, value: int | str, wanted: int | str) -> Figure:
    """A figure that must equal `wanted`."""
    return Figure(name, str(value), f"= {wanted}", value == wanted)


def at_most(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure with an upper limit."""
    return Figure(name, _text(value, unit), f"<= {_text(limit, unit)}", value <= limit, bool(unit))


def at_least(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure with a lower limit."""
    return Figure(name, _text(value, unit), f">= {_text(limit, unit)}", value >= limit)


def reached(name: str, value: float, wanted: float) -> Figure:
    """A lower limit on how far a fault got, which depends on load and is judged on an idle machine only."""
    return replace(at_least(name, value, wanted), measured=True)


def between(name: str, values: Sequence[float], low: float, high: float, unit: str = "") -> Figure:
    """The smallest and the largest of some values, both of which must lie within the limits."""
    least, most = (min(values), max(values)) if values else (math.nan, math.nan)
    shown = f"{_number(least)}-{_text(most, unit)}"
    within = low <= least and most <= high
    return Figure(name, shown, f"{_number(low)}-{_text(high, unit)}", within, bool(unit))


def told(name: str, value: object) -> Figure:
    """A value for information, without a criterion."""
    return Figure(name, str(value), "", None)


def skipped(name: str, reason: str) -> Figure:
    """A fault that cannot be tested here, and why."""
    return Figure(name, "skipped", reason, None)


def named(what: str, figure: Figure) -> Figure:
    """The figure with the name of its case in front."""
    return replace(figure, name=f"{what}: {figure.name}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; NaN if there are none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def _text(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
