"""The one way in which small things are timed: processor time of a call, the median of some repeats."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

REPEATS = 7
LEAST_NS = 20_000_000
"""What a repeat takes at least: much more than reading the clock."""


def per_call(call: Callable[[], object], least_ns: int = LEAST_NS, repeats: int = REPEATS) -> float:
    """ns of processor time per call; collections of garbage are left out."""
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
