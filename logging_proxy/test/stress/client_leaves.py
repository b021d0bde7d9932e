"""Fault test 7: the client disconnects before the response head, in a body, or in a stream."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.demo.captures import Capture
from logging_proxy.test.e2e.case import wait_until
from logging_proxy.test.stress.figures import Figure, at_most, exactly, percentile
from logging_proxy.test.stress.peers import (
    CHUNKED,
    EVENTS,
    Answer,
    Connection,
    Request,
    Upstream,
    chunk,
    connect,
    head,
    read_answer,
    request,
)
from logging_proxy.test.stress.stage import (
    Process,
    Stage,
    captures,
    settled,
)

PHASES = ("before-head", "upload", "body", "stream")
NEVER = 60.0
"""Seconds recorded for an upstream connection that was never closed."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Trials in each phase, and how many run concurrently."""

    trials: int
    at_once: int = 8


FULL = Scale(trials=200)
SMALL = Scale(trials=15)


class Watching:
    """An upstream that records when its connections arrive and when they are closed."""

    def __init__(self) -> None:
        self.left: dict[str, asyncio.Future[float]] = {}
        self.came: dict[str, asyncio.Event] = {}

    def expect(self, target: str) -> asyncio.Future[float]:
        """Fires with the time at which the upstream connection of this request was closed."""
        self.left[target] = asyncio.get_running_loop().create_future()
        self.came[target] = asyncio.Event()
        return self.left[target]

    async def answer(self, request: Request, connection: Connection) -> None:
        self.came[request.target].set()
        sending = asyncio.create_task(self._send(request, connection))
        await connection.left()
        sending.cancel()
        self.left[request.target].set_result(time.monotonic())
        connection.close()

    async def _send(self, request: Request, connection: Connection) -> None:
        phase = request.target.partition("?")[0][1:]
        if phase == "body":
            await connection.send(head("Content-Length: 1000000") + bytes(100_000))
        elif phase == "stream":
            await connection.send(head(CHUNKED, EVENTS))
            while True:
                await connection.send(chunk(b"data: something\n\n"))
                await asyncio.sleep(0.005)


async def watch_upload(watching: Watching, connection: Connection) -> None:
    """The upstream's side of an upload that never completes."""
    data = await connection.reader.readuntil(b"\r\n\r\n")
    target = data.split(b" ")[1].decode()
    watching.came[target].set()
    await connection.left()
    watching.left[target].set_result(time.monotonic())
    connection.close()


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """The upstream connection is closed within 100 ms, nothing stays open, and the outcome is right."""
    delays, lost, found, base, after = asyncio.run(_run(stage, scale))
    for phase in PHASES:
        worst = percentile(delays[phase], 0.99) * 1000
        yield at_most(f"upstream left, p99, {phase}", worst, 100, "ms")
    yield exactly("trials", sum(map(len, delays.values())), scale.trials * len(PHASES))
    yield exactly("captures with outcome client_closed", _closed(found), scale.trials * len(PHASES))
    yield exactly("clients with bytes that the capture lacks", lost(found), 0)
    yield at_most("descriptors afterwards, base", after, base)


def _closed(found: list[Capture]) -> int:
    return sum(capture.outcome == "client_closed" for capture in found)


@dataclass(slots=True)
class Lost:
    """The bytes that clients received, by path."""

    got: dict[str, bytes]

    def __call__(self, found: list[Capture]) -> int:
        kept = {c.source_url.partition("/up")[2]: c.response.body if c.response else b"" for c in found}
        return sum(not kept.get(path, b"").startswith(got) for path, got in self.got.items())


async def _run(stage: Stage, scale: Scale) -> tuple[dict[str, list[float]], Lost, list[Capture], int, int]:
    watching, got = Watching(), Lost({})
    delays: dict[str, list[float]] = {phase: [] for phase in PHASES}

    async def upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await watch_upload(watching, Connection(reader, writer))

    uploads = await asyncio.start_server(upload, "127.0.0.1", 0)
    uploads_url = f"http://127.0.0.1:{uploads.sockets[0].getsockname()[1]}/"
    async with uploads, Upstream(watching.answer) as upstream:
        setup = stage.configure({"up": upstream.url, "upload": uploads_url})
        program = await asyncio.to_thread(stage.start, setup)
        process, gate = Process(program.process.pid), asyncio.Semaphore(scale.at_once)
        base = await asyncio.to_thread(settled, setup, process)

        async def one(phase: str, number: int) -> None:
            async with gate:
                target = f"/{phase}?{number}"
                delay, body = await _leave(setup.port, watching, phase, target)
                delays[phase].append(delay)
                if phase != "upload":
                    got.got[target] = body

        for phase in PHASES:
            await asyncio.gather(*(one(phase, number) for number in range(scale.trials)))
        count = scale.trials * len(PHASES)
        found = await asyncio.to_thread(captures, setup.log_dir, count)
        await asyncio.to_thread(wait_until, lambda: process.fds() <= base)
        return delays, got, found, base, process.fds()


async def _leave(port: int, watching: Watching, phase: str, target: str) -> tuple[float, bytes]:
    """Request and disconnect; returns the seconds until the upstream noticed, and the received body."""
    left, answer = watching.expect(target), Answer()
    connection = await connect(port)
    if phase == "upload":
        data = request("POST", f"/upload{target}", "Content-Length: 1000000")
        await connection.send(data.replace(b"Content-Length: 0\r\n", b"") + bytes(1000))
    else:
        await connection.send(request("GET", f"/up{target}"))
    reading = asyncio.create_task(read_answer(connection.reader, answer))
    async with asyncio.timeout(NEVER):
        await watching.came[target].wait()
    await asyncio.sleep(random.uniform(0, 0.04))
    reading.cancel()
    await asyncio.wait([reading])
    began = time.monotonic()
    connection.reset() if random.random() < 0.5 else connection.close()
    try:
        async with asyncio.timeout(NEVER):
            return await left - began, bytes(answer.body)
    except TimeoutError:
        return NEVER, bytes(answer.body)
