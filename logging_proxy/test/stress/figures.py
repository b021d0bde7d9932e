"""Figures of a fault test: what was measured, what was asked, and whether it is so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `passed` is None for what is told and not judged."""

    name: str
    value: str
    criterion: str
    passed: bool | None
    measured: bool = False
    """A time, a size or a share of the machine: true of a machine that has nothing else to do."""

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "-"}[self.passed]
        return f"{self.name:<52} {self.value:>16}  {self.criterion:<22} {verdict}"


def exactly(name: str, value: int | str, wanted: int | str) -> Figure:
    """A figure that must be this and nothing else."""
    return Figure(name, str(value), f"= {wanted}", value == wanted)


def at_most(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure with an upper limit."""
    return Figure(name, _text(value, unit), f"<= {_text(limit, unit)}", value <= limit, bool(unit))


def at_least(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure with a lower limit."""
    return Figure(name, _text(value, unit), f">= {_text(limit, unit)}", value >= limit)


def reached(name: str, value: float, wanted: float) -> Figure:
    """How far a fault got: at least so far, on a machine that has nothing else to do."""
    return replace(at_least(name, value, wanted), measured=True)


def between(name: str, values: Sequence[float], low: float, high: float, unit: str = "") -> Figure:
    """The smallest and the largest of some values, both of which must be within limits."""
    least, most = (min(values), max(values)) if values else (math.nan, math.nan)
    shown = f"{_number(least)}-{_text(most, unit)}"
    within = low <= least and most <= high
    return Figure(name, shown, f"{_number(low)}-{_text(high, unit)}", within, bool(unit))


def told(name: str, value: object) -> Figure:
    """What a reader wants to know, and no limit applies to."""
    return Figure(name, str(value), "", None)


def skipped(name: str, reason: str) -> Figure:
    """What could not be tried here, and why."""
    return Figure(name, "skipped", reason, None)


def named(what: str, figure: Figure) -> Figure:
    """The same figure, of one case of several."""
    return replace(figure, name=f"{what}: {figure.name}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; not a number when there are none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def _text(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
