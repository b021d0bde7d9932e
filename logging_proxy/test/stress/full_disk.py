"""Fault test 3: the disk is full, and later has room again."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from logging_proxy.test.e2e.case import PATIENCE
from logging_proxy.test.stress.figures import (
    Figure,
    at_least,
    at_most,
    exactly,
    named,
    reached,
    skipped,
    told,
)
from logging_proxy.test.stress.peers import Upstream
from logging_proxy.test.stress.recording import RESUMED, Echo, Kept, Traffic, judge_loss, kept
from logging_proxy.test.stress.stage import Stage


@dataclass(frozen=True, slots=True)
class Scale:
    """Requests and the size of their bodies, which together exceed ring and disk."""

    requests: int
    size: int
    afterwards: float = RESUMED + 0.2
    """Seconds of requests after there is room again."""


FULL = Scale(requests=1_000, size=64 << 10)
SMALL = Scale(requests=200, size=192 << 10, afterwards=0.5)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """With `pass` all requests are proxied and losses counted; with `block` nothing is lost."""
    for mode in ("pass", "block"):
        small = stage.folder / f"small-{mode}"
        small.mkdir()
        if not mount(small, "size=1m", stage):
            yield skipped("a full disk", "tmpfs cannot be mounted here")
            return
        yield from (named(mode, figure) for figure in asyncio.run(_run(stage, scale, small, mode)))


def mount(folder: Path, options: str, stage: Stage) -> bool:
    """Mount a tmpfs at `folder` until the stage is left; False if that is not permitted."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        stage.on_exit(subprocess.run, ["umount", "-l", str(folder)])
    return done.returncode == 0


async def _run(stage: Stage, scale: Scale, small: Path, mode: str) -> list[Figure]:
    echo = Echo()
    async with Upstream(echo.answer) as upstream:
        log_dir = small / "logs"
        setup = stage.configure(
            {"up": upstream.url},
            logging={"on_capture_error": mode},
            logging_server={"log_dir": str(log_dir)},
        )
        setup = replace(setup, log_dir=log_dir)
        program = await asyncio.to_thread(stage.start, setup)
        traffic = Traffic(setup.port, scale.size)
        if mode == "block":
            await asyncio.to_thread(_fill, small / "filler")
            await traffic.until(lambda answer: answer.status == 503, PATIENCE)
        before = len(traffic.answers)
        await traffic.send(scale.requests)
        refused = sum(answer.status == 503 for answer in traffic.answers.values())
        hits = echo.hits
        since = time.monotonic()
        await asyncio.to_thread(_make_room, small)
        took = await traffic.until(lambda answer: answer.status == 200, PATIENCE)
        await traffic.until(lambda answer: False, scale.afterwards)
        found = await asyncio.to_thread(kept, setup, traffic)
        words = program.words()
    common = [exactly("tracebacks in the proxy's words", words.count("Traceback"), 0)]
    if mode == "block":
        return [*_blocked(scale, traffic, found, before, refused, hits, took), *common]
    whole = traffic.proxied()
    return [
        exactly("requests proxied", whole, len(traffic.answers)),
        reached("exchanges lost while it was full", found.missing(), 10),
        *judge_loss(setup, found, since),
        *common,
    ]


def _blocked(
    scale: Scale, traffic: Traffic, found: Kept, before: int, refused: int, hits: int, took: float
) -> Iterator[Figure]:
    answered = traffic.proxied()
    yield told("proxied before the failure was known", hits)
    yield at_least("requests refused with 503", refused, scale.requests)
    yield exactly("requests that reached the upstream and were refused", hits - (before - 1), 0)
    yield at_most("answered again after", took, RESUMED, "s")
    yield exactly("answered exchanges that were not captured whole", answered - len(found.whole()), 0)


def _fill(filler: Path) -> None:
    """Write until the disk is full."""
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def _make_room(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(small)], check=True)
