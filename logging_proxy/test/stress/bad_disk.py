"""Fault test 4: disk errors, a removed log directory, and a limit on file sizes."""

from __future__ import annotations

import asyncio
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from logging_proxy.demo.processes import Program, module
from logging_proxy.test.e2e.case import (
    PATIENCE,
    wait_until,
)
from logging_proxy.test.stress.figures import (
    Figure,
    at_least,
    at_most,
    exactly,
    named,
    reached,
)
from logging_proxy.test.stress.peers import Upstream
from logging_proxy.test.stress.recording import RESUMED, Echo, Traffic, judge_loss, kept
from logging_proxy.test.stress.stage import MIB, Stage, lost_exchanges


@dataclass(frozen=True, slots=True)
class Scale:
    """Requests for each fault and the size of their bodies, which together exceed the ring."""

    requests: int
    size: int
    errors: tuple[str, ...] = ("EIO", "EROFS")
    afterwards: float = RESUMED + 0.2
    """Seconds of requests after the fault has ended."""


FULL = Scale(requests=1_000, size=64 << 10)
SMALL = Scale(requests=150, size=192 << 10, errors=("EIO",), afterwards=0.5)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """As on a full disk: all requests are proxied and losses counted, or all are refused."""
    for word in scale.errors:
        yield from (named(f"{word}, pass", f) for f in asyncio.run(_passes(stage, scale, word)))
    yield from (named("EIO, block", f) for f in asyncio.run(_blocks(stage, scale, "EIO")))
    yield from (named("log_dir removed", f) for f in asyncio.run(_removed(stage, scale)))
    yield from (named("files of 1 MiB", f) for f in asyncio.run(_limited(stage, scale)))


def bad_twistd(told: Path) -> list[str]:
    """The command of a twistd whose spool disk behaves as the file `told` says."""
    told.write_text("")
    return module("logging_proxy.test.stress.bad_twistd", str(told))


async def _passes(stage: Stage, scale: Scale, word: str) -> list[Figure]:
    echo, told = Echo(), stage.folder / "told"
    async with Upstream(echo.answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        program = await asyncio.to_thread(stage.start, setup, bad_twistd(told))
        traffic = Traffic(setup.port, scale.size)
        await traffic.send(20)
        told.write_text(word)
        await traffic.send(scale.requests)
        since = time.monotonic()
        told.write_text("")
        await traffic.until(lambda answer: False, scale.afterwards)
        found = await asyncio.to_thread(kept, setup, traffic)
        return [
            exactly("requests proxied", traffic.proxied(), len(traffic.answers)),
            reached("exchanges lost meanwhile", found.missing(), 10),
            *await asyncio.to_thread(lambda: list(judge_loss(setup, found, since))),
            _no_traceback(program),
        ]


async def _blocks(stage: Stage, scale: Scale, word: str) -> list[Figure]:
    echo, told = Echo(), stage.folder / "told"
    async with Upstream(echo.answer) as upstream:
        setup = stage.configure({"up": upstream.url}, logging={"on_capture_error": "block"})
        program = await asyncio.to_thread(stage.start, setup, bad_twistd(told))
        traffic = Traffic(setup.port, scale.size)
        told.write_text(word)
        await traffic.until(lambda answer: answer.status == 503, 5)
        before = echo.hits
        await traffic.send(scale.requests)
        refused = sum(answer.status == 503 for answer in traffic.answers.values())
        hits = echo.hits - before
        told.write_text("")
        took = await traffic.until(lambda answer: answer.status == 200, 10)
        found = await asyncio.to_thread(kept, setup, traffic)
        return [
            at_least("requests refused with 503", refused, scale.requests),
            exactly("requests that reached the upstream all the same", hits, 0),
            at_most("answered again after", took, RESUMED, "s"),
            exactly("answered, not captured whole", traffic.proxied() - len(found.whole()), 0),
            _no_traceback(program),
        ]


async def _removed(stage: Stage, scale: Scale) -> list[Figure]:
    """Captures in the removed directory are lost; later ones are not."""
    echo = Echo()
    async with Upstream(echo.answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        program = await asyncio.to_thread(stage.start, setup)
        traffic = Traffic(setup.port, scale.size)
        sending = asyncio.create_task(traffic.send(scale.requests))
        await asyncio.to_thread(wait_until, lambda: len(traffic.answers) > scale.requests // 3, PATIENCE)
        since = time.monotonic()
        await asyncio.to_thread(shutil.rmtree, setup.log_dir, True)
        await sending
        await traffic.until(lambda answer: False, scale.afterwards)
        found = await asyncio.to_thread(kept, setup, traffic)
        return [
            exactly("requests proxied", traffic.proxied(), len(traffic.answers)),
            reached("captures that went with it", found.missing(), 1),
            exactly("captures that are not what they say", found.lying(), 0),
            at_most("captured again after", found.resumed(since), RESUMED, "s"),
            _no_traceback(program),
        ]


async def _limited(stage: Stage, scale: Scale) -> list[Figure]:
    """A write that reaches the size limit is short; the spool continues in a new segment."""
    echo = Echo()
    async with Upstream(echo.answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        program = await asyncio.to_thread(stage.start, setup)
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
        traffic = Traffic(setup.port, scale.size)
        await traffic.send(scale.requests)
        found = await asyncio.to_thread(kept, setup, traffic)
        return [
            exactly("requests proxied", traffic.proxied(), len(traffic.answers)),
            exactly("exchanges not captured whole", found.missing(), 0),
            exactly("lost exchanges, as counted", await asyncio.to_thread(lost_exchanges, setup), 0),
            _no_traceback(program),
        ]


def _no_traceback(program: Program) -> Figure:
    return exactly("tracebacks in the proxy's words", program.words().count("Traceback"), 0)
