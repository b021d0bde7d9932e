"""Fault test 1: `kill -9` in the middle of streams."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from logging_proxy.demo.captures import Capture
from logging_proxy.demo.processes import Program, ProgramError
from logging_proxy.test.e2e.case import Setup
from logging_proxy.test.stress.figures import (
    Figure,
    at_most,
    exactly,
    reached,
    told,
)
from logging_proxy.test.stress.peers import (
    CHUNKED,
    EVENTS,
    Answer,
    Connection,
    Request,
    Upstream,
    ask,
    call,
    chunk,
    connect,
    head,
    request,
    response,
)
from logging_proxy.test.stress.stage import Process, Stage, captures

LONGEST = 150
"""Pieces of the longest stream, 10 ms apart; the shortest has one, and ends before most kills."""

ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Scale:
    """Streams in a round, rounds, and captures that exist before the first."""

    streams: int
    rounds: int
    captures: int


FULL = Scale(streams=50, rounds=100, captures=10_000)
SMALL = Scale(streams=30, rounds=3, captures=50)


@dataclass(slots=True)
class Seen:
    """The answers of clients by path, and the duration of each start."""

    answers: dict[str, Answer] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Errors of failed starts, which are retried as a supervisor would."""


async def upstream(request: Request, connection: Connection) -> None:
    """A stream with pieces derived from its path, or a small response."""
    if request.method == "POST":
        await connection.send(response(request.body))
        return
    pieces = list(stream(request.target))
    await connection.send(head(CHUNKED, EVENTS))
    for piece in pieces:
        await connection.send(chunk(piece))
        await asyncio.sleep(0.01)
    await connection.send(chunk(b""))


def stream(target: str) -> Iterator[bytes]:
    """The pieces of a stream."""
    source = random.Random(target)
    for number in range(source.choice((1, 10, 30, LONGEST))):
        yield b"data: %s %d %s\n\n" % (target.encode(), number, b"x" * source.choice((0, 10, 1500)))


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Every byte that a client received is in its capture, and no capture contains anything else."""
    seen, found = asyncio.run(_run(stage, scale))
    by_path = {capture.source_url.partition("/up")[2]: capture for capture in found}
    pairs = [(path, answer, by_path.get(path)) for path, answer in seen.answers.items()]
    begun = [pair for pair in pairs if pair[1].status]
    cut = sum(not answer.whole for _, answer, _ in begun)
    total = sum(len(answer.body) for _, answer, _ in begun)
    lost = sum(len(answer.body) for _, answer, capture in begun if not _holds(answer, capture))
    yield reached("streams begun", len(begun), scale.streams * scale.rounds * 9 // 10)
    yield reached("streams cut by the kill", cut, len(begun) // 4)
    yield exactly("streams whose capture has all that the client got", _held(begun), len(begun))
    yield exactly(f"bytes lost, of {total}", lost, 0)
    yield exactly("captures with bytes that were not sent", sum(_strange(p, c) for p, _, c in pairs), 0)
    yield exactly("whole for the client, not `complete`", sum(_denied(a, c) for _, a, c in pairs), 0)
    yield exactly("`complete` without all bytes", sum(_false(p, c) for p, _, c in pairs), 0)
    yield exactly("captures whose digest is not the file's", sum(not _true(c) for c in found), 0)
    yield exactly("ids stored twice", len(found) - len({c.request.metadata["id"] for c in found}), 0)
    yield at_most(f"start to listening, with {len(found)} captures", max(seen.starts), 2, "s")
    yield exactly("starts that were refused", "; ".join(sorted(set(seen.refused))) or "none", "none")
    outcomes = sorted({capture.outcome for capture in by_path.values()})
    yield told("outcomes", ", ".join(outcomes))


def _body(capture: Capture | None) -> bytes:
    return capture.response.body if capture is not None and capture.response is not None else b""


def _holds(answer: Answer, capture: Capture | None) -> bool:
    return capture is not None and _body(capture).startswith(bytes(answer.body))


def _held(pairs: list[tuple[str, Answer, Capture | None]]) -> int:
    return sum(_holds(answer, capture) for _, answer, capture in pairs)


def _strange(path: str, capture: Capture | None) -> bool:
    return capture is not None and not b"".join(stream(path)).startswith(_body(capture))


def _denied(answer: Answer, capture: Capture | None) -> bool:
    return answer.whole and (capture is None or capture.outcome != "complete")


def _false(path: str, capture: Capture | None) -> bool:
    return capture is not None and capture.outcome == "complete" and _body(capture) != b"".join(stream(path))


def _true(capture: Capture) -> bool:
    """Whether digest and size of each file match its metadata."""
    for half in capture.halves:
        body = half.body
        if half.metadata["bytes"] != len(body) or half.metadata["sha256"] != hashlib.sha256(body).hexdigest():
            return False
    return True


async def _run(stage: Stage, scale: Scale) -> tuple[Seen, list[Capture]]:
    seen = Seen()
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        await _fill(stage, setup, scale.captures)
        for number in range(scale.rounds):
            program = await asyncio.to_thread(_start, stage, setup, seen)
            calls = [_call(setup.port, f"/{number}?{stream}", seen) for stream in range(scale.streams)]
            running = asyncio.gather(*calls)
            await asyncio.sleep(random.uniform(0.1, 0.7))
            _kill(program, all_of_it=number % 3 == 0)
            await running
            await asyncio.to_thread(program.stop)
        program = await asyncio.to_thread(_start, stage, setup, seen)
        begun = sum(answer.status > 0 for answer in seen.answers.values())
        await asyncio.to_thread(captures, setup.log_dir, begun + scale.captures)
        await asyncio.to_thread(program.stop)
    return seen, await asyncio.to_thread(captures, setup.log_dir, 0)


async def _fill(stage: Stage, setup: Setup, count: int) -> None:
    """Create captures before the test."""
    program = await asyncio.to_thread(stage.start, setup)
    numbers = iter(range(count))

    async def client() -> None:
        connection = await connect(setup.port)
        for number in numbers:
            await ask(connection, request("POST", f"/up/filler{number}", body=b"filler"))
        connection.close()

    await asyncio.gather(*(client() for _ in range(8)))
    await asyncio.to_thread(captures, setup.log_dir, count)
    await asyncio.to_thread(program.stop)


def _start(stage: Stage, setup: Setup, seen: Seen) -> Program:
    began = time.monotonic()
    for _ in range(ATTEMPTS):
        try:
            program = stage.start(setup)
            break
        except ProgramError as error:
            seen.refused.append(str(error).splitlines()[-1])
            time.sleep(0.1)
    else:
        raise ProgramError(f"the proxy does not start: {seen.refused[-1]}")
    seen.starts.append(time.monotonic() - began)
    return program


def _kill(program: Program, all_of_it: bool) -> None:
    """SIGKILL to the proxy, and to its logging server too if `all_of_it`."""
    pid = program.process.pid
    children = Process(pid).children() if all_of_it else []
    os.kill(pid, signal.SIGKILL)
    for child in children:
        os.kill(child, signal.SIGKILL)


async def _call(port: int, path: str, seen: Seen) -> None:
    await asyncio.sleep(random.uniform(0, 0.1))
    seen.answers[path] = await call(port, "GET", f"/up{path}")
