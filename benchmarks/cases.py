"""The workloads of the comparison, and the figures shown for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import loads
from benchmarks.loads import Work
from benchmarks.stage import Stage

Drive = Callable[[Stage, int, int], Work]
"""Puts load on the proxy at a port for about the given number of seconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """A workload; with `warm`, it first runs for a second unmeasured."""

    name: str
    title: str
    drive: Drive
    warm: bool = False


def _post(connections: int) -> Drive:
    return lambda stage, port, seconds: loads.post(port, stage.load_processor, connections, seconds)


def _sse(streams: int, events: Callable[[int], int], gap: str) -> Drive:
    return lambda stage, port, seconds: loads.sse(port, stage.load_processor, streams, events(seconds), gap)


CASES = (
    Case("post", "JSON POST, 64 connections", _post(64), warm=True),
    Case("post1", "JSON POST, one connection", _post(1), warm=True),
    Case("sse", "100 streams, 50 events/s each", _sse(100, lambda seconds: 50 * seconds, "20ms")),
    Case("flood", "64 streams, as fast as they go", _sse(64, lambda seconds: 600 * seconds, "0s")),
    Case("streams", "1,000 streams at once", _sse(1000, lambda seconds: 2 * seconds + 4, "500ms")),
    Case("down", "1 GiB response", lambda stage, port, _: loads.down(port, stage.load_processor)),
    Case(
        "up",
        "1 GiB request",
        lambda stage, port, _: loads.up(port, stage.load_processor, stage.folder / "blob"),
    ),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table: the case's figure `key`, divided by `scale`."""

    case: str
    key: str
    label: str
    unit: str
    scale: float = 1.0
    more_is_better: bool = False
    charted: bool = True


MIB = float(1 << 20)

FIGURES = (
    Figure("post", "cpu_us", "CPU per request", "µs"),
    Figure("post", "tree_cpu_us", "CPU per request, files and index written", "µs", charted=False),
    Figure("post", "requests_s", "requests per second", "/s", more_is_better=True),
    Figure("post1", "p50_us", "latency, p50", "µs"),
    Figure("sse", "cpu_us", "CPU per event", "µs"),
    Figure("sse", "p50_us", "delay of an event, p50", "µs", charted=False),
    Figure("sse", "p99_us", "delay of an event, p99", "ms", scale=1e3),
    Figure("flood", "events_s", "events per second", "/s", more_is_better=True),
    Figure("streams", "growth", "memory", "MiB", scale=MIB),
    Figure("down", "mib_s", "throughput", "MiB/s", more_is_better=True),
    Figure("down", "growth", "memory", "MiB", scale=MIB, charted=False),
    Figure("up", "mib_s", "throughput", "MiB/s", more_is_better=True),
    Figure("up", "growth", "memory", "MiB", scale=MIB, charted=False),
)
