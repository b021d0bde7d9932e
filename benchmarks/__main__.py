"""
Runs the benchmarks.

    python -m benchmarks [PART ...] [--rounds 3] [--seconds 2] [--results DIRECTORY]
    python -m benchmarks --draw

The parts are side-by-side, connections, routes, sizes, idle, running and micro; the default is all of them.
Their results are stored in benchmarks/results/, those of side-by-side also in docs/performance.md.  Single
cases of side-by-side (post, post1, sse, flood, streams, down, up) are run and printed, but not stored.
With --draw nothing is measured: tables and pictures are made from the stored results.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, report, results
from benchmarks.cases import CASES, Case
from benchmarks.contenders import CONTENDERS, Contender, is_here
from benchmarks.curves import CURVES
from benchmarks.loads import require_tools
from benchmarks.micro import costs
from benchmarks.processes import Trouble
from benchmarks.results import COMPARISON, MICRO, PAGE, PARTS, RESULTS
from benchmarks.side_by_side import Runs, compare
from benchmarks.stage import Stage


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts and cases to run, and for how long."""

    parts: tuple[str, ...]
    cases: tuple[Case, ...]
    rounds: int
    seconds: int
    folder: Path
    only_draw: bool = False


def read_arguments(arguments: Sequence[str]) -> Plan:
    """Parse the arguments; exits with a message if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*PARTS, *(case.name for case in CASES)]
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=3, help="turns that each proxy has in a case")
    parser.add_argument("--seconds", type=int, default=2, help="that a measurement takes, about")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIRECTORY", help="to keep them in")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what is kept")
    options = parser.parse_args(arguments)
    for name in options.parts:
        if name not in names:
            parser.error(f"no part {name!r}; there are {', '.join(names)}")
    named = options.parts or PARTS
    return Plan(
        tuple(part for part in PARTS if part in named),
        tuple(case for case in CASES if case.name in named),
        options.rounds,
        options.seconds,
        options.results,
        options.draw,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the requested parts; returns the exit status."""
    plan = read_arguments(arguments)
    if plan.only_draw:
        _draw(plan.folder)
        return 0
    # SystemExit runs the context managers, which end the started programs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        require_tools()
        here = machine.describe()
        _say(report.line(here))
        with Stage() as stage:
            for part in plan.parts:
                _run_part(stage, part, plan, here)
            if plan.cases:
                _say("\n" + report.comparison(_compare(stage, plan.cases, plan), here))
    except KeyboardInterrupt:
        return 130
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


def _run_part(stage: Stage, part: str, plan: Plan, here: dict[str, str]) -> None:
    """Run one part, print and store its results, and draw all results."""
    began = time.monotonic()
    _say(f"\n{part}")
    results.keep(plan.folder, part, here, _measure(stage, part, plan))
    _draw(plan.folder)
    _say(f"\n{results.text(plan.folder, part)}\n({time.monotonic() - began:.0f} s)")


def _draw(folder: Path) -> None:
    results.draw(folder)
    if folder == RESULTS:
        PAGE.write_text(results.put_into_page(PAGE.read_text(), results.text(RESULTS, COMPARISON)))


def _measure(stage: Stage, part: str, plan: Plan) -> Any:
    if part == COMPARISON:
        return _compare(stage, CASES, plan)
    if part == MICRO:
        return [asdict(cost) for cost in costs()]
    return asdict(CURVES[part](stage, plan.seconds))


def _compare(stage: Stage, cases: Sequence[Case], plan: Plan) -> dict[str, Runs]:
    contenders = list(_contenders())
    runs: dict[str, Runs] = {}
    for case in cases:
        began = time.monotonic()
        runs[case.name] = compare(stage, case, contenders, plan.rounds, plan.seconds)
        _say(f"  {case.name}: {case.title} ({time.monotonic() - began:.0f} s)")
    return runs


def _contenders() -> Iterator[Contender]:
    for contender in CONTENDERS:
        if is_here(contender):
            yield contender
        else:
            _say(f"  {contender.label} is left out: there is no {contender.program}")


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
