"""
Runs the fault tests at full size and prints their figures.

    python -m logging_proxy.test.stress [--small] [NAME ...]

The exit status is 1 if a figure does not meet its criterion.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from logging_proxy.test.stress.figures import Figure
from logging_proxy.test.stress.stage import Stage

FAULTS = {
    "killed": 1,
    "power-loss": 2,
    "full-disk": 3,
    "bad-disk": 4,
    "stalled-disk": 5,
    "upstream-dies": 6,
    "client-leaves": 7,
    "slow-peers": 8,
    "stale-pool": 9,
    "unreachable": 10,
    "server-down": 11,
    "process-limits": 12,
    "upstream-resets": 13,
    "damaged-segment": 14,
    "clock-steps": 15,
    "descriptor-flood": 16,
}
"""The numbers of the fault tests, by module name."""


MOST = 600
"""Time limit of a fault test, in seconds."""


def run(name: str, small: bool = False) -> Iterable[Figure]:
    """The figures of one fault test as they are measured.  Raises TimeoutError at the time limit."""
    module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    with Stage() as stage, bounded(MOST):
        yield from module.figures(stage, module.SMALL if small else module.FULL)


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block if it takes longer than this number of seconds."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def main(arguments: list[str]) -> int:
    """Run the named fault tests, or all; returns the exit status."""
    parser = argparse.ArgumentParser(prog="stress", description="Runs fault tests and prints their figures.")
    parser.add_argument("--small", action="store_true", help="as small as in the end-to-end tests")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FAULTS]
    if unknown:
        parser.error(f"no fault test {unknown[0]!r}; there are {', '.join(FAULTS)}")
    failed: list[str] = []
    for name in options.names or FAULTS:
        failed += _report(name, options.small)
    print("\n" + ("all passed" if not failed else "FAILED: " + ", ".join(failed)))
    return 1 if failed else 0


def _report(name: str, small: bool) -> list[str]:
    """Print the figures of a fault test; returns its name if one does not meet its criterion."""
    began = time.monotonic()
    print(f"\n{FAULTS[name]}. {name}", flush=True)
    passed = True
    try:
        for figure in run(name, small):
            print(f"   {figure}", flush=True)
            passed = passed and figure.passed is not False
    except Exception as error:
        print(f"   {type(error).__name__}: {error}", flush=True)
        passed = False
    print(f"   {time.monotonic() - began:.0f} s", flush=True)
    return [] if passed else [name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
