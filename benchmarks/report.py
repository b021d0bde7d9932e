"""Formats results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.cases import CASES
from benchmarks.contenders import CONTENDERS
from benchmarks.curves import Curve
from benchmarks.figures import byte_count, duration, number
from benchmarks.micro import Cost
from benchmarks.side_by_side import Runs, failed, ratio, shown, value

RATIO = "In brackets: the ratio to Go's `httputil.ReverseProxy`, the median of the rounds' ratios."
ERRORS = " †: with errors."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, with numbers in all columns except the first."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def comparison(results: Mapping[str, Runs], machine: Mapping[str, str]) -> str:
    """The table that compares all contenders."""
    names = list(next(iter(results.values())))
    titles = {case.name: case.title for case in CASES}
    rows: list[list[str]] = []
    before = ""
    for figure, runs in shown(results):
        if figure.case != before:
            rows.append([f"**{titles[figure.case]}**", *[""] * len(names)])
            before = figure.case
        cells = [
            _cell(value(runs, name, figure), ratio(runs, name, figure), failed(runs, name)) for name in names
        ]
        rows.append([figure.label + ("" if figure.unit == "/s" else f", {figure.unit}"), *cells])
    note = RATIO + (ERRORS if any(" †" in cell for row in rows for cell in row) else "")
    labels = {contender.name: contender.label for contender in CONTENDERS}
    return f"{table(['', *map(labels.__getitem__, names)], rows)}\n{note}\n\n{line(machine)}\n"


def _cell(value: float, ratio: float | None, failed: bool) -> str:
    return number(value) + ("" if ratio is None else f" ({ratio:.2f})") + (" †" if failed else "")


def curve(curve: Curve, machine: Mapping[str, str]) -> str:
    """The table of a curve."""
    points = [byte_count(point) if curve.x_in_bytes else f"{point:,}" for point in curve.points]
    rows = [[label, *map(number, values)] for label, values in curve.lines.items()]
    note = f"\n{curve.note}\n" if curve.note else ""
    return f"{table([curve.y, *points], rows)}{note}\n{line(machine)}\n"


def micro(costs: Sequence[Cost], machine: Mapping[str, str]) -> str:
    """The table of the costs of single parts."""
    rows = [[cost.name, duration(cost.ns), cost.unit] for cost in costs]
    return f"{table(['part', 'CPU', 'per'], rows)}\n{line(machine)}\n"


def line(machine: Mapping[str, str]) -> str:
    """The machine, in one line."""
    plain = ("date", "processor", "kernel")
    words = [value if name in plain else f"{name} {value}" for name, value in machine.items()]
    return ", ".join(words) + "."
