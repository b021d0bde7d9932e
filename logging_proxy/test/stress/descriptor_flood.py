"""Fault test 14: clients exhaust descriptors with idle connections."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from logging_proxy.demo.processes import Program
from logging_proxy.test.e2e.case import Setup
from logging_proxy.test.stress.figures import (
    Figure,
    at_most,
    exactly,
    reached,
    told,
)
from logging_proxy.test.stress.peers import Connection, Request, Upstream, call, connect, response
from logging_proxy.test.stress.stage import Process, Stage, captures, health

DESCRIPTORS = 512
FLOOD = DESCRIPTORS + 100
"""Number of idle connections."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Bodies sent during the flood and their size in MiB, small requests, and seconds of slow sending."""

    bodies: int
    size: int
    requests: int
    slow: float


FULL = Scale(bodies=10, size=10, requests=100, slow=70)
SMALL = Scale(bodies=3, size=2, requests=20, slow=3)


PUT = b"PUT /092d0424-0000-4000-8000-%012d/request HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"


async def upstream(request: Request, connection: Connection) -> None:
    """Respond with the number of bytes in the path."""
    await connection.send(response(bytes(int(request.target.partition("=")[2]))))


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Everything is recorded and stored, and other clients are served, whatever the number of connections."""
    yield from asyncio.run(_proxy(stage, scale))
    yield from asyncio.run(_server(stage, scale))


def _limit(program: Program) -> Process:
    """Limit the descriptors of the proxy and its children."""
    proxy = Process(program.process.pid)
    for pid in (proxy.pid, *proxy.children()):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    return proxy


async def _crowd(port: int, data: bytes) -> list[Connection]:
    connections = []
    for _ in range(FLOOD):
        with suppress(OSError):
            connection = await connect(port)
            connections.append(connection)
            if data:
                await connection.send(data)
    return connections


async def _proxy(stage: Stage, scale: Scale) -> list[Figure]:
    """Idle connections to the proxy."""
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        program = await asyncio.to_thread(stage.start, setup)
        proxy = _limit(program)
        crowd = await _crowd(setup.port, b"")
        await asyncio.sleep(0.5)
        used = proxy.fds()
        size = scale.size << 20
        answers = [await call(setup.port, "GET", f"/up/body?n={size}") for _ in range(scale.bodies)]
        found = await asyncio.to_thread(captures, setup.log_dir, scale.bodies)
        status, drain = await _stop(program)
        for connection in crowd:
            connection.close()
    body = hashlib.sha256(bytes(size)).hexdigest()
    kept = [capture.response.metadata["sha256"] == body for capture in found if capture.response]
    return [
        told("proxy: idle connections that were made", len(crowd)),
        reached("proxy: descriptors used, of 512", used, DESCRIPTORS // 3),
        exactly("proxy: bodies that came whole", sum(answer.whole for answer in answers), scale.bodies),
        exactly("proxy: captures with all bytes", sum(kept), scale.bodies),
        exactly("proxy: complete", sum(each.outcome == "complete" for each in found), scale.bodies),
        exactly("proxy: tracebacks in its words", program.words().count("Traceback"), 0),
        exactly("proxy: exit status with all of them connected", status, 0),
        at_most("proxy: SIGTERM with all of them connected", drain, 30, "s"),
    ]


async def _server(stage: Stage, scale: Scale) -> list[Figure]:
    """Heads and uploads to the logging server that arrive byte by byte."""
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        program = await asyncio.to_thread(stage.start, setup)
        _limit(program)
        crowd = await _crowd(setup.logging_port, b"G")
        crowd += [connection for number in range(50) for connection in await _one(setup, PUT % number)]
        answers = [await call(setup.port, "GET", "/up/body?n=10") for _ in range(scale.requests)]
        found = await asyncio.to_thread(captures, setup.log_dir, scale.requests)
        state = await _dribble(setup, crowd, scale.slow)
        status, drain = await _stop(program)
        for connection in crowd:
            connection.close()
    return [
        told("server: slow connections that were made", len(crowd)),
        exactly("server: requests answered meanwhile", sum(a.whole for a in answers), scale.requests),
        exactly("server: captures stored meanwhile", len(found), scale.requests),
        exactly("server: its health meanwhile", state, "ok"),
        exactly("server: tracebacks in its words", program.words().count("Traceback"), 0),
        exactly("server: exit status with all of them connected", status, 0),
        at_most("server: SIGTERM with all of them connected", drain, 30, "s"),
    ]


async def _one(setup: Setup, data: bytes) -> list[Connection]:
    with suppress(OSError):
        connection = await connect(setup.logging_port)
        await connection.send(data)
        return [connection]
    return []


async def _dribble(setup: Setup, crowd: list[Connection], seconds: float) -> str:
    """Send a byte a second on every connection for `seconds`; returns the server's status afterwards."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        crowd = [connection for connection in crowd if not connection.writer.is_closing()]
        for connection in crowd:
            with suppress(OSError):
                await connection.send(b"E")
        await asyncio.sleep(1)
    return str((await asyncio.to_thread(health, setup)).get("status", "does not answer"))


async def _stop(program: Program) -> tuple[int, float]:
    """Send SIGTERM; returns the exit status and the seconds until the exit."""
    began = time.monotonic()
    program.process.terminate()
    status = await asyncio.to_thread(program.process.wait, 60)
    return status, time.monotonic() - began
