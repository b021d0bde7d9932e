"""Fault test 8: slow request heads, slow readers and huge bodies, beside a normal client."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from logging_proxy.test.stress import large_body
from logging_proxy.test.stress.figures import (
    Figure,
    at_most,
    between,
    exactly,
    percentile,
    reached,
    skipped,
)
from logging_proxy.test.stress.peers import (
    HOST,
    Connection,
    Request,
    Upstream,
    call,
    head,
    request,
    response,
)
from logging_proxy.test.stress.stage import MIB, Stage

LARGE = 8 * MIB
NORMAL_PACE = 0.02
COMING = 2.0
"""Seconds over which the slow readers connect."""
SLOWHTTPTEST = {"-H": "headers", "-B": "bodies", "-X": "readers"}


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of slow peers, the durations, and the bytes of a large body."""

    drippers: int
    readers: int
    head_timeout: float
    seconds: float
    bytes: int
    slowhttptest: float = 0


FULL = Scale(drippers=500, readers=200, head_timeout=10, seconds=20, bytes=5 << 30, slowhttptest=15)
SMALL = Scale(drippers=50, readers=20, head_timeout=2, seconds=3, bytes=48 << 20)


@dataclass(slots=True)
class Seen:
    """The measurements."""

    cut: list[float] = field(default_factory=list)
    normal: list[float] = field(default_factory=list)
    failed: int = 0
    read: list[int] = field(default_factory=list)
    growth: float = 0


async def upstream(request: Request, connection: Connection) -> None:
    """Large answers for slow readers, small ones for the normal client."""
    if request.target == "/large":
        await connection.send(head(f"Content-Length: {LARGE}"))
        for _ in range(LARGE // 65536):
            await connection.send(bytes(65536))
    else:
        await connection.send(response(b"yes"))


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Slow heads are cut in time, a normal client is not affected, and memory does not grow."""
    yield from asyncio.run(_slow(stage, scale))
    if scale.slowhttptest:
        yield from asyncio.run(_slowhttptest(stage, scale))
    yield from large_body.figures(stage, scale.bytes)


async def _slow(stage: Stage, scale: Scale) -> list[Figure]:
    seen, limit = Seen(), scale.head_timeout
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url}, server={"head_timeout": limit})
        program = await asyncio.to_thread(stage.start, setup)
        async with normal_client(setup.port, Seen()):
            await asyncio.sleep(1)
        with large_body.Peak(program.process.pid) as peak:
            async with normal_client(setup.port, seen):
                until = time.monotonic() + scale.seconds
                drips = [drip(setup.port, until + 2, seen) for _ in range(scale.drippers)]
                crawls = [crawl(setup.port, until, seen) for _ in range(scale.readers)]
                await asyncio.gather(*drips, *crawls)
    return [
        exactly("heads that drip, cut", len(seen.cut), scale.drippers),
        between("cut after", seen.cut, limit - 1, limit + 1, "s"),
        reached("readers at 1 KiB/s served", sum(size > 0 for size in seen.read), scale.readers),
        at_most("normal client, p99", percentile(seen.normal, 0.99) * 1000, 250, "ms"),
        exactly("normal client, failures", seen.failed, 0),
        at_most("RSS of the proxy, growth", peak.growth[0], 64, "MiB"),
    ]


async def drip(port: int, until: float, seen: Seen) -> None:
    """Send a byte of a head each half second until the proxy closes the connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = time.monotonic()
    left = asyncio.create_task(reader.read(65536))
    for byte in b"GET /up/ HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
        try:
            writer.write(bytes([byte]))
            await writer.drain()
            # A response may precede the close; only the close counts.
            if (await asyncio.wait([left], timeout=0.5))[0]:
                break
        except OSError:
            break
        if time.monotonic() > until:
            return
    seen.cut.append(time.monotonic() - began)
    left.cancel()
    writer.close()


async def crawl(port: int, until: float, seen: Seen) -> None:
    """Read a large response at 1 KiB/s, and disconnect."""
    loop = asyncio.get_running_loop()
    # They connect one after another, because the kernel's buffers take megabytes of each response.
    await asyncio.sleep(random.uniform(0, COMING))
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, (HOST, port))
        await loop.sock_sendall(sock, request("GET", "/up/large"))
        got = 0
        while time.monotonic() < until:
            got += len(await loop.sock_recv(sock, 1024))
            await asyncio.sleep(1)
        seen.read.append(got)


@asynccontextmanager
async def normal_client(port: int, seen: Seen) -> AsyncIterator[None]:
    """A client that makes a request every 20 ms on a new connection while the context is entered."""

    async def ask() -> None:
        while True:
            began = time.monotonic()
            answer = await call(port, "GET", "/up/small")
            seen.normal.append(time.monotonic() - began)
            seen.failed += answer.status != 200 or not answer.whole
            await asyncio.sleep(NORMAL_PACE)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _slowhttptest(stage: Stage, scale: Scale) -> list[Figure]:
    """The slow headers, slow bodies and slow readers of slowhttptest, if it is installed."""
    program = shutil.which("slowhttptest")
    if program is None:
        return [skipped("slowhttptest", "it is not installed")]
    found = []
    async with Upstream(upstream) as peer:
        setup = stage.configure({"up": peer.url})
        await asyncio.to_thread(stage.start, setup)
        for option, what in SLOWHTTPTEST.items():
            seen, url = Seen(), f"http://{HOST}:{setup.port}/up/large"
            words = [option, "-c", "500", "-r", "200", "-l", f"{scale.slowhttptest:g}", "-i", "2", "-p", "3"]
            async with normal_client(setup.port, seen):
                process = await asyncio.create_subprocess_exec(
                    program, *words, "-u", url, stdout=asyncio.subprocess.DEVNULL, cwd=stage.folder
                )
                async with asyncio.timeout(scale.slowhttptest + 60):
                    await process.wait()
            worst = percentile(seen.normal, 0.99) * 1000
            found.append(at_most(f"slowhttptest {option} ({what}): normal client, p99", worst, 250, "ms"))
            found.append(exactly(f"slowhttptest {option}: failures of the normal client", seen.failed, 0))
    return found
