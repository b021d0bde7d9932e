"""Fault test 11: the logging server is down, slow, or restarted, until the spool is full."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from logging_proxy.captures.names import METADATA
from logging_proxy.demo.captures import Capture
from logging_proxy.demo.processes import Program
from logging_proxy.test.e2e.case import wait_until
from logging_proxy.test.stress.figures import (
    Figure,
    exactly,
    named,
    reached,
    told,
)
from logging_proxy.test.stress.peers import Upstream
from logging_proxy.test.stress.recording import Echo, Kept, Traffic, judge_loss, kept
from logging_proxy.test.stress.relay import HEALTHY, Relay, Toxics
from logging_proxy.test.stress.stage import MIB, Process, Stage, captures, lost_exchanges

SLOW = Toxics(bandwidth=100_000, latency=0.05)


@dataclass(frozen=True, slots=True)
class Scale:
    """Exchanges, seconds without a logging server, and seconds with a slow one."""

    exchanges: int
    down: float
    slow: float


FULL = Scale(exchanges=5_000, down=60, slow=10)
SMALL = Scale(exchanges=300, down=1.5, slow=0.5)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Every exchange arrives once; those that did not fit into the spool are counted."""
    yield from (named("embedded", figure) for figure in asyncio.run(_embedded(stage, scale)))
    yield from (named("remote", figure) for figure in asyncio.run(_remote(stage, scale)))
    yield from (named("spool full", figure) for figure in asyncio.run(_full_spool(stage, scale)))


async def _embedded(stage: Stage, scale: Scale) -> list[Figure]:
    """The embedded logging server is killed repeatedly."""
    echo = Echo()
    async with Upstream(echo.answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        program = await asyncio.to_thread(stage.start, setup)
        traffic = Traffic(setup.port, 1000, clients=1)
        killing = asyncio.create_task(_kill_children(program, scale.down))
        await _steadily(traffic, scale.exchanges, scale.down)
        kills = await killing
        found = await asyncio.to_thread(captures, setup.log_dir, scale.exchanges)
        return [reached("times the child was killed", kills, 2), *_arrived(setup.log_dir, traffic, found)]


async def _kill_children(program: Program, seconds: float) -> int:
    """Kill the logging server shortly after each start; returns how often."""
    process, until, kills = Process(program.process.pid), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for child in process.children():
            await asyncio.sleep(0.7)  # The child has started, and is working.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                kills += 1
        await asyncio.sleep(0.05)
    return kills


async def _steadily(traffic: Traffic, count: int, seconds: float) -> None:
    """Make `count` requests, spread over `seconds`."""
    began, steps = time.monotonic(), 20
    for step in range(steps):
        await traffic.send(count * (step + 1) // steps - len(traffic.answers))
        await asyncio.sleep(max(0.0, began + seconds * (step + 1) / steps - time.monotonic()))


def _arrived(log_dir: Path, traffic: Traffic, found: list[Capture]) -> Iterator[Figure]:
    files = sum(name.endswith(METADATA) for name in os.listdir(log_dir))
    whole = Kept(traffic, found).whole()
    yield exactly("exchanges proxied", traffic.proxied(), len(traffic.answers))
    yield exactly("exchanges that arrived whole", len(whole), len(traffic.answers))
    yield exactly("captures beyond one of each", files // 2 - len({c.source_url for c in found}), 0)


async def _remote(stage: Stage, scale: Scale) -> list[Figure]:
    """A remote logging server is killed, stays down, returns, is slow, and is restarted."""
    echo, third = Echo(), scale.exchanges // 3
    async with Upstream(echo.answer) as upstream:
        there = stage.configure({"up": upstream.url})
        server = await asyncio.to_thread(stage.start, there, (), "logging-server")
        async with Relay(there.logging_port) as relay:
            here = stage.configure({"up": upstream.url}, logging={"server_url": relay.url})
            await asyncio.to_thread(stage.start, here)
            traffic = Traffic(here.port, 1000)
            sending = asyncio.create_task(traffic.send(third))
            await asyncio.sleep(0.3)
            os.kill(server.process.pid, signal.SIGKILL)
            await sending
            await _steadily(traffic, 2 * third, scale.down)
            server = await asyncio.to_thread(stage.start, there, (), "logging-server")
            relay.onward = relay.back = SLOW
            sending = asyncio.create_task(traffic.send(scale.exchanges - len(traffic.answers)))
            await asyncio.sleep(scale.slow)
            await sending
            arrived = len(await asyncio.to_thread(captures, there.log_dir, 0))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(stage.start, there, (), "logging-server")
            relay.onward = relay.back = HEALTHY
            found = await asyncio.to_thread(captures, there.log_dir, scale.exchanges)
            figures = list(_arrived(there.log_dir, traffic, found))
    return [told("arrived while it was slow", arrived), *figures]


async def _full_spool(stage: Stage, scale: Scale) -> list[Figure]:
    """Without a logging server, more is recorded than the spool may hold."""
    echo = Echo()
    async with Upstream(echo.answer) as upstream:
        there = stage.configure({"up": upstream.url})
        logging = {"server_url": f"http://127.0.0.1:{there.logging_port}", "spool_limit": "2MiB"}
        here = stage.configure({"up": upstream.url}, logging=logging)
        await asyncio.to_thread(stage.start, here)
        traffic = Traffic(here.port, 128 << 10)
        await traffic.send(max(300, scale.exchanges // 5))
        await asyncio.to_thread(stage.start, there, (), "logging-server")
        # The shipper retries at intervals; losses are known once it has reached the server.
        await asyncio.to_thread(wait_until, lambda: lost_exchanges(there) > 0)
        since = time.monotonic()
        await traffic.until(lambda answer: False, 1)
        found = await asyncio.to_thread(kept, there, traffic)
        size = sum(path.stat().st_size for path in here.log_dir.rglob("*.seg")) / MIB
        return [
            exactly("exchanges proxied", traffic.proxied(), len(traffic.answers)),
            reached("exchanges that did not fit", found.missing(), 10),
            *await asyncio.to_thread(lambda: list(judge_loss(there, found, since))),
            told("spool afterwards", f"{size:.2g} MiB"),
        ]
