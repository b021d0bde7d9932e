"""Measures the processor time of a call, as the median of several repeats."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

REPEATS = 7
LEAST_NS = 20_000_000
"""Minimum duration of a repeat, far above the cost of reading the clock."""


def per_call(call: Callable[[], object], least_ns: int = LEAST_NS, repeats: int = REPEATS) -> float:
    """Processor time per call in nanoseconds, without garbage collection."""
    calls, took = 1, _time(call, 1)
    while took < least_ns:
        calls = max(calls * 2, calls * least_ns // max(took, 1))
        took = _time(call, calls)
    return statistics.median(_time(call, calls) / calls for _ in range(repeats))


def _time(call: Callable[[], object], calls: int) -> int:
    gc.collect()
    gc.disable()
    try:
        rounds = range(calls)
        began = time.process_time_ns()
        for _ in rounds:
            call()
        return time.process_time_ns() - began
    finally:
        gc.enable()
