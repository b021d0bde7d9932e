"""Compares proxies in alternating rounds, so that disturbances affect all of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.cases import FIGURES, Case, Figure
from benchmarks.contenders import GO, Contender
from benchmarks.processes import Server
from benchmarks.stage import Stage

Runs = dict[str, list[dict[str, float]]]
"""The figures of one case: those of each round, by contender."""


def compare(stage: Stage, case: Case, contenders: Sequence[Contender], rounds: int, seconds: int) -> Runs:
    """Run every contender in turn, `rounds` times."""
    runs: Runs = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            with stage.proxy(contender.command) as (server, port):
                if case.warm:
                    case.drive(stage, port, 1)
                    server.settle()
                runs[contender.name].append(_measure(stage, case, contender, server, port, seconds))
    return runs


def _measure(
    stage: Stage, case: Case, contender: Contender, server: Server, port: int, seconds: int
) -> dict[str, float]:
    """
    The figures of the load generator, and processor time and memory of the proxy.

    `cpu_us` is the processor time of a unit of work up to the response; `tree_cpu_us` includes the work in
    the background afterwards.
    """
    cpu = server.tree_cpu if contender.whole else server.cpu
    memory = server.tree_memory if contender.whole else server.memory
    peak = server.tree_peak if contender.whole else server.peak
    idle, before, all_before = memory(), cpu(), server.tree_cpu()
    work = case.drive(stage, port, seconds)
    used, most = cpu() - before, peak()
    server.settle()
    units = max(1, work.units)
    return {
        **work.figures,
        "cpu_us": used / units * 1e6,
        "tree_cpu_us": (server.tree_cpu() - all_before) / units * 1e6,
        "growth": float(most - idle),
    }


# --- what is shown -----------------------------------------------------------------------


def value(runs: Runs, name: str, figure: Figure) -> float:
    """The median of a contender's rounds, in the figure's unit."""
    return statistics.median(run[figure.key] for run in runs[name]) / figure.scale


def ratio(runs: Runs, name: str, figure: Figure) -> float | None:
    """The median of the rounds' ratios to Go's proxy; None if there is none."""
    pairs = zip(runs[name], runs.get(GO, ()), strict=False)
    ratios = [mine[figure.key] / go[figure.key] for mine, go in pairs if go[figure.key] > 0]
    return statistics.median(ratios) if ratios and name != GO else None


def failed(runs: Runs, name: str) -> bool:
    """Whether the load generator saw errors, which makes the figures unreliable."""
    return any(run.get("errors", 0) for run in runs[name])


def shown(results: Mapping[str, Runs]) -> Iterator[tuple[Figure, Runs]]:
    """The figures of the cases that were run."""
    for figure in FIGURES:
        if figure.case in results:
            yield figure, results[figure.case]
