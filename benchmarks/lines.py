"""Draws a curve."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks import svg
from benchmarks.curves import Curve
from benchmarks.figures import byte_count

WIDTH, HEIGHT = 560.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 20.0, 88.0, 46.0
EDGE = 16.0
MOST_LABELS = 6
KINDS = ("a", "b", "d", "c")


def draw(curve: Curve) -> str:
    return svg.picture(WIDTH, HEIGHT, curve.title, _parts(curve))


def _parts(curve: Curve) -> Iterator[str]:
    yield svg.text(EDGE, 26, curve.title, "title")
    yield svg.text(EDGE, 74, curve.y, "quiet")
    yield from _legend(list(curve.lines))
    ticks = y_ticks(curve)
    for tick in ticks:
        y = _y(curve, tick, ticks)
        yield svg.stroke(LEFT, y, WIDTH - RIGHT, y, "axis" if tick == ticks[0] else "grid")
        yield svg.text(LEFT - 6, y + 4, f"{tick:,g}", "quiet", "end")
    for at, point in enumerate(curve.points):
        label = byte_count(point) if curve.x_in_bytes else f"{point:,}"
        if at % 2 == 0 or len(curve.points) <= MOST_LABELS:
            yield svg.text(_x(curve, point), HEIGHT - BOTTOM + 16, label, "quiet", "middle")
    yield svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, curve.x, "quiet", "middle")
    for kind, values in zip(KINDS, curve.lines.values(), strict=False):
        places = [
            (_x(curve, point), _y(curve, value, ticks))
            for point, value in zip(curve.points, values, strict=True)
        ]
        yield svg.polyline(places, kind)
        yield from (svg.dot(x, y, kind) for x, y in places)


def _legend(labels: list[str]) -> Iterator[str]:
    x = EDGE
    for kind, label in zip(KINDS, labels, strict=False):
        yield svg.box(x, 39, 10, 10, kind)
        yield svg.text(x + 15, 48, label, "quiet")
        x += 33 + 6.0 * len(label)


def _x(curve: Curve, point: int) -> float:
    first, last = curve.points[0], curve.points[-1]
    if curve.x_is_logarithmic:
        share = math.log(point / first) / math.log(last / first)
    else:
        share = point / last
    return LEFT + 16 + share * (WIDTH - LEFT - RIGHT - 40)


def _y(curve: Curve, value: float, ticks: list[float]) -> float:
    low, high = ticks[0], ticks[-1]
    if curve.both_logarithmic:
        share = math.log(max(value, low) / low) / math.log(high / low)
    else:
        share = value / high
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def y_ticks(curve: Curve) -> list[float]:
    """Round numbers that enclose all values; on a linear axis they start at 0."""
    values = [value for line in curve.lines.values() for value in line]
    if curve.both_logarithmic:
        low = math.floor(math.log10(min(value for value in values if value > 0)))
        return [10.0**power for power in range(low, math.ceil(math.log10(max(values))) + 1)]
    most = max(values)
    step = 10.0 ** math.floor(math.log10(most))
    step = next(part for part in (step / 5, step / 2, step, 2 * step) if most / part <= 5)
    return [step * at for at in range(math.ceil(most / step) + 1)]
