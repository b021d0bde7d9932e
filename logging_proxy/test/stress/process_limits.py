"""Fault test 12: no descriptors left, SIGTERM under load, a bad configuration on SIGHUP."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from logging_proxy.demo.processes import Program
from logging_proxy.net.descriptors import RESERVED
from logging_proxy.test.e2e.case import (
    PATIENCE,
    Setup,
    run_twistd,
    wait_until,
)
from logging_proxy.test.stress.figures import (
    Figure,
    at_most,
    exactly,
    reached,
    told,
)
from logging_proxy.test.stress.peers import (
    CHUNKED,
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
from logging_proxy.test.stress.stage import (
    Process,
    Stage,
    captures,
    settled,
)

DESCRIPTORS = 256
STREAM_PIECES = 15


@dataclass(frozen=True, slots=True)
class Scale:
    """Clients that exhaust descriptors, idle seconds, seconds before SIGTERM, and requests a second."""

    clients: int
    seconds: float
    rate: int
    idle: float


FULL = Scale(clients=400, seconds=5, rate=200, idle=3)
SMALL = Scale(clients=400, seconds=0.5, rate=100, idle=1)


async def upstream(request: Request, connection: Connection) -> None:
    """Responds at once, after a moment, never, or with a stream of some seconds."""
    if request.target == "/never":
        await connection.left()
        connection.close()
    elif request.target == "/stream":
        await connection.send(head(CHUNKED))
        for number in range(STREAM_PIECES):
            await asyncio.sleep(0.1)
            await connection.send(chunk(b"piece %d" % number))
        await connection.send(chunk(b""))
    else:
        await asyncio.sleep(0.05 if request.target.startswith("/later") else 0)
        await connection.send(response(request.target.encode()))


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Accepting resumes, a drain fails no request, and a bad configuration changes nothing."""
    yield from asyncio.run(_descriptors(stage, scale))
    yield from asyncio.run(_bad_configuration(stage))
    yield from asyncio.run(_terminated(stage, scale))


# --- no descriptors left --------------------------------------------------------------


async def _descriptors(stage: Stage, scale: Scale) -> list[Figure]:
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        program = await asyncio.to_thread(stage.start, setup)
        process = Process(program.process.pid)
        base = await asyncio.to_thread(settled, setup, process)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        connections = await _crowd(setup.port, scale.clients)
        await asyncio.sleep(0.5)
        most, before, began = process.fds(), process.cpu(), time.monotonic()
        await asyncio.sleep(scale.idle)
        cpu = 100 * (process.cpu() - before) / (time.monotonic() - began)
        for connection in connections:
            connection.close()
        recovery = await _until_served(setup.port)
        await asyncio.to_thread(wait_until, lambda: process.fds() <= base + 1)
        after, words = process.fds(), program.words()
    return [
        reached("descriptors used, of 256", most, (DESCRIPTORS - RESERVED) // 2),
        at_most("descriptors used, of 256", most, DESCRIPTORS - RESERVED // 2),
        at_most("CPU without a descriptor left", cpu, 20, "%"),
        at_most("served again after", recovery, 1, "s"),
        at_most("descriptors afterwards, base and a pooled one", after, base + 1),
        exactly("tracebacks in the proxy's words", words.count("Traceback"), 0),
    ]


async def _crowd(port: int, count: int) -> list[Connection]:
    """Clients that wait for a response that never comes; every other one sends nothing at all."""
    connections = []
    for number in range(count):
        with suppress(OSError):
            connection = await connect(port)
            connections.append(connection)
            if number % 2:
                await connection.send(request("GET", "/up/never"))
    return connections


async def _until_served(port: int) -> float:
    """Seconds until a request is answered again."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if (await call(port, "GET", "/up/now")).status == 200:
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - began


# --- SIGTERM under load -----------------------------------------------------------------


@dataclass(slots=True)
class Load:
    """The results of requests made at a steady rate."""

    answered: int = 0
    refused: int = 0
    retried: int = 0
    failed: list[str] = field(default_factory=list)
    idle: list[Connection] = field(default_factory=list)

    async def run(self, port: int, rate: int, over: asyncio.Event) -> None:
        """Make requests until `over`, half of them on new connections, half on kept ones."""
        tasks, number = set(), 0
        began = time.monotonic()
        while not over.is_set():
            tasks.add(asyncio.create_task(self._one(port, number)))
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        await asyncio.gather(*tasks)

    async def _one(self, port: int, number: int) -> None:
        path = f"/up/later{number}"
        if number % 2 and self.idle:
            connection = self.idle.pop()
            answer = await ask(connection, request("GET", path))
            self._done(connection, answer)
            if answer.whole or answer.status:
                self._judge(path, answer)
                return
            # A server may close a kept connection at any time, and clients then retry on a new one.
            self.retried += 1
        try:
            connection = await connect(port)
        except OSError:
            self.refused += 1
            return
        answer = await ask(connection, request("GET", path))
        self._done(connection, answer)
        self._judge(path, answer)

    def _done(self, connection: Connection, answer: Answer) -> None:
        if answer.keeps:
            self.idle.append(connection)
        else:
            connection.close()

    def _judge(self, path: str, answer: Answer) -> None:
        if answer.whole and answer.status == 200 and bytes(answer.body) == path[3:].encode():
            self.answered += 1
        else:
            self.failed.append(f"{path}: {answer.status}, {len(answer.body)} bytes")


async def _terminated(stage: Stage, scale: Scale) -> list[Figure]:
    load, over = Load(), asyncio.Event()
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        program = await asyncio.to_thread(stage.start, setup)
        running = asyncio.create_task(load.run(setup.port, scale.rate, over))
        await asyncio.sleep(scale.seconds)
        stream = await _streaming(setup.port)
        began = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(program.process.wait, PATIENCE)
        drain = time.monotonic() - began
        over.set()
        await running
        streamed = await stream
    found = await asyncio.to_thread(captures, setup.log_dir, load.answered + streamed.whole)
    complete = sum(capture.outcome == "complete" for capture in found)
    return [
        told("SIGTERM: requests answered, refused afterwards", f"{load.answered}, {load.refused}"),
        exactly("SIGTERM: failed requests", "; ".join(load.failed[:3]) or "none", "none"),
        exactly("SIGTERM: a stream of 1.5 s ended whole", str(streamed.whole), "True"),
        told("SIGTERM: asked again on a new connection", load.retried),
        at_most("SIGTERM: drain", drain, 30, "s"),
        exactly("SIGTERM: exit status", status, 0),
        exactly("SIGTERM: complete captures", complete, load.answered + streamed.whole),
    ]


async def _streaming(port: int) -> asyncio.Task[Answer]:
    """A stream that has begun, and the task that reads it to its end."""
    connection, answer = await connect(port), Answer()
    reading = asyncio.create_task(ask(connection, request("GET", "/up/stream"), answer))
    while not answer.body and not reading.done():
        await asyncio.sleep(0.01)
    return reading


# --- a bad configuration ------------------------------------------------------------------


async def _bad_configuration(stage: Stage) -> list[Figure]:
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        program = await asyncio.to_thread(stage.start, setup)
        stream = await _streaming(setup.port)
        said = await asyncio.to_thread(_reload_badly, setup, program)
        after = await call(setup.port, "GET", "/up/now")
        streamed = await stream
        done = await asyncio.to_thread(
            run_twistd, setup.path.parent, "-n", "--pidfile=", "logging-proxy", "--config", str(setup.path)
        )
    place = "config.yaml:1:"
    return [
        exactly("SIGHUP, bad: refused with file and line", str(said), "True"),
        exactly("SIGHUP, bad: the running one goes on", after.status, 200),
        exactly("SIGHUP, bad: a stream goes on", str(streamed.whole), "True"),
        exactly("start, bad: exit status", done.returncode, 1),
        exactly("start, bad: told with file and line", str(place in done.stdout + done.stderr), "True"),
    ]


def _reload_badly(setup: Setup, program: Program) -> bool:
    """Whether a bad configuration is reported with its place."""
    setup.path.write_text("bad: true\n" + setup.path.read_text())
    os.kill(program.process.pid, signal.SIGHUP)
    return wait_until(lambda: "config.yaml:1:" in program.words())
