"""Draws the comparison: a panel for each figure, with a bar for each proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import svg
from benchmarks.cases import CASES, Figure
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import number
from benchmarks.side_by_side import Runs, shown, value

COLUMNS = 3
WIDTH, HEIGHT, MARGIN = 292.0, 160.0, 16.0
"""Size of a panel including the gap to the next, and the margin of the picture."""

HEADING, ROW, THICK = 48.0, 20.0, 13.0
NAME, NUMBER = 82.0, 50.0
"""Widths reserved for the name before a bar and for the number after it."""

KINDS = {"capturing": "a", "plain": "b"}
OTHERS = "c"


def draw(results: dict[str, Runs]) -> str:
    panels = [(figure, runs) for figure, runs in shown(results) if figure.charted]
    rows = -(-len(panels) // COLUMNS)
    parts: list[str] = []
    for at, (figure, runs) in enumerate(panels):
        x, y = MARGIN + at % COLUMNS * WIDTH, MARGIN + at // COLUMNS * HEIGHT
        parts += _panel(x, y, figure, {name: value(runs, name, figure) for name in runs})
    width, height = 2 * MARGIN + COLUMNS * WIDTH - 12, MARGIN + rows * HEIGHT
    return svg.picture(width, height, "Logging Proxy beside other proxies", parts)


def _panel(x: float, y: float, figure: Figure, values: dict[str, float]) -> Iterator[str]:
    title = next(case.title for case in CASES if case.name == figure.case)
    better = "more is better" if figure.more_is_better else "less is better"
    yield svg.text(x, y + 14, title, "title")
    unit = "" if figure.unit == "/s" else f" ({figure.unit})"
    yield svg.text(x, y + 31, f"{figure.label}{unit}, {better}", "quiet")
    most = longest(list(values.values()))
    room = WIDTH - NAME - NUMBER - 12
    for row, (name, amount) in enumerate(values.items()):
        top = y + HEADING - 8 + row * ROW
        label = next(contender.short for contender in CONTENDERS if contender.name == name)
        yield svg.text(x + NAME - 6, top + 11, label, "quiet", "end")
        length = max(1.0, room * min(1.0, amount / most))
        yield svg.box(x + NAME, top, length, THICK, KINDS.get(name, OTHERS))
        if amount > most:
            for shift in (14, 20):
                right = x + NAME + length - shift
                yield svg.stroke(right - 3, top + THICK + 2, right + 3, top - 2, "break")
        yield svg.text(x + NAME + length + 5, top + 11, number(amount))


def longest(values: Sequence[float]) -> float:
    """The value of the longest bar.  One value far above all others is cut, so that those stay visible."""
    *_, second, first = [0.0, *sorted(values)]
    return second * 1.5 if first > 3 * second > 0 else first or 1.0
