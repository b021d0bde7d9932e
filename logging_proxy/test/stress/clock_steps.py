"""Fault test 13: the wall clock is set forward and back while streams run and retention is active."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from logging_proxy.demo.processes import Program
from logging_proxy.test.e2e.case import Setup, twistd
from logging_proxy.test.stress.figures import Figure, at_most, between, exactly, named, skipped
from logging_proxy.test.stress.peers import (
    CHUNKED,
    Answer,
    Connection,
    Request,
    Upstream,
    call,
    chunk,
    head,
    response,
)
from logging_proxy.test.stress.stage import Process, Stage, captures

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
"""Where distributions install libfaketime, which gives a process another wall clock."""

HOUR = 3600
DAY = 24 * HOUR

STEPS = {
    "2 h forward": 2 * HOUR,
    "2 h back": -2 * HOUR,
    "40 days back": -40 * DAY,
    "93 days forward": 93 * DAY,
}

PIECE = 0.5
"""Seconds between pieces of a stream."""

LEAST = 20
"""Seconds in which records must be stored, whatever the wall clock says."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Streams running at each step of the clock, their pieces, and small requests before and after it."""

    streams: int
    pieces: int
    requests: int


FULL = Scale(streams=50, pieces=20, requests=100)
SMALL = Scale(streams=5, pieces=6, requests=10)


async def upstream(request: Request, connection: Connection) -> None:
    """A slow stream, or an immediate small response."""
    if request.target.startswith("/stream"):
        await connection.send(head(CHUNKED))
        for number in range(int(request.target.partition("=")[2])):
            await connection.send(chunk(b"piece %d" % number))
            await asyncio.sleep(PIECE)
        await connection.send(chunk(b""))
    else:
        await connection.send(response(request.target.encode()))


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """No stream is cut, everything is stored soon, nothing is deleted, and no process spins."""
    library = next((path for path in LIBRARIES if os.path.exists(path)), None)
    if library is None:
        yield skipped("the clock is set", "libfaketime is not installed")
        return
    yield from asyncio.run(_run(stage, scale, library))


class Clock:
    """The wall clock of a program, under control of the test."""

    def __init__(self, folder: Path, library: str) -> None:
        self._path = folder / "clock"
        self._library = library
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set the clock to this many seconds from the real time."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._path)

    def command(self) -> Sequence[str]:
        """The command of a twistd that uses this clock, as do its children."""
        return [
            "/usr/bin/env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._path}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *twistd(),
        ]


async def _run(stage: Stage, scale: Scale, library: str) -> list[Figure]:
    found: list[Figure] = []
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url}, logging_server={"retention": {"max_age": "30d"}})
        clock = Clock(setup.path.parent, library)
        program = await asyncio.to_thread(stage.start, setup, clock.command())
        passed = 0
        for name, seconds in STEPS.items():
            passed += scale.streams + 2 * scale.requests
            step = await _step(setup, scale, clock, program, seconds, passed)
            found += [named(name, figure) for figure in step]
        clock.set(0)
        await asyncio.to_thread(program.stop)
    return found


async def _step(
    setup: Setup, scale: Scale, clock: Clock, program: Program, seconds: int, passed: int
) -> list[Figure]:
    """Set the clock in the middle of streams; `passed` is the number of exchanges after this step."""
    streams = asyncio.gather(
        *(call(setup.port, "GET", f"/up/stream?n={scale.pieces}") for _ in range(scale.streams))
    )
    answered = await _requests(setup.port, scale.requests)
    await asyncio.sleep(PIECE)
    clock.set(seconds)
    answered += await _requests(setup.port, scale.requests)
    whole = sum(answer.whole for answer in await streams)
    began = time.monotonic()
    found = await asyncio.to_thread(captures, setup.log_dir, passed)
    took = time.monotonic() - began
    times = [half.metadata["processing_time_ms"] / 1000 for capture in found for half in capture.halves]
    cpu, log = await _at_rest(program)
    return [
        exactly("streams that came whole", whole, scale.streams),
        exactly("small requests answered", answered, 2 * scale.requests),
        exactly("complete captures", sum(capture.outcome == "complete" for capture in found), passed),
        between("how long exchanges took", times, 0, PIECE * scale.pieces + LEAST, "s"),
        at_most("stored after", took, LEAST / 2, "s"),
        at_most("processor time at rest", cpu, 20, "%"),
        at_most("log in a second at rest", log, 1000, "bytes"),
    ]


async def _requests(port: int, count: int) -> int:
    answers: list[Answer] = await asyncio.gather(
        *(call(port, "GET", f"/up/{number}") for number in range(count))
    )
    return sum(answer.whole for answer in answers)


async def _at_rest(program: Program, seconds: float = 1.0) -> tuple[float, int]:
    """Processor time of proxy and logging server in percent, and bytes logged, while idle."""
    proxy = Process(program.process.pid)
    processes = [proxy, *map(Process, proxy.children())]
    words, before = len(program.words()), sum(process.cpu() for process in processes)
    await asyncio.sleep(seconds)
    used = sum(process.cpu() for process in processes) - before
    return 100 * used / seconds, len(program.words()) - words
