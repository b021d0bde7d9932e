"""Fault test 13: bit flips in the spool's newest segment before it is read."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from logging_proxy.demo.processes import Program
from logging_proxy.recording.records import Kind, RecordReader, decode_request_head
from logging_proxy.recording.segments import whole_blocks
from logging_proxy.test.e2e.case import Setup, wait_until
from logging_proxy.test.stress.figures import Figure, at_least, exactly, named, told
from logging_proxy.test.stress.peers import Upstream
from logging_proxy.test.stress.recording import Echo, Kept, Traffic, kept
from logging_proxy.test.stress.stage import Process, Stage, health

SIZE = 2000
"""The size of a body, in bytes."""

WRITTEN = 0.5
"""Seconds after which records have been written to the segment."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Exchanges before and after the damage, and the number of flipped bits."""

    before: int
    after: int
    bits: int


FULL = Scale(before=4_000, after=500, bits=20)
SMALL = Scale(before=300, after=50, bits=3)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Damage affects only the blocks that contain it, is counted, and makes no capture wrong."""
    yield from (named("embedded", figure) for figure in asyncio.run(_embedded(stage, scale)))
    yield from (named("remote", figure) for figure in asyncio.run(_remote(stage, scale)))


async def _embedded(stage: Stage, scale: Scale) -> list[Figure]:
    """With the proxy's own logging server, which is stopped during the damage."""
    async with Upstream(Echo().answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        program = await asyncio.to_thread(stage.start, setup)
        traffic = Traffic(setup.port, SIZE)
        children = await _held_up(program, setup)
        await traffic.send(scale.before)
        await asyncio.sleep(WRITTEN)
        hurt = _damage(setup.log_dir, scale.bits)
        for child in children:
            os.kill(child, signal.SIGCONT)
        return await _judge(setup, traffic, scale, hurt)


async def _held_up(program: Program, setup: Setup) -> list[int]:
    """Stop the proxy's logging server with SIGSTOP; returns its process ids."""
    await asyncio.to_thread(wait_until, lambda: health(setup) != {}, 30)
    children = Process(program.process.pid).children()
    for child in children:
        os.kill(child, signal.SIGSTOP)
    return children


async def _remote(stage: Stage, scale: Scale) -> list[Figure]:
    """With a remote logging server, which starts after the damage."""
    async with Upstream(Echo().answer) as upstream:
        there = stage.configure({"up": upstream.url})
        url = f"http://127.0.0.1:{there.logging_port}"
        here = stage.configure({"up": upstream.url}, logging={"server_url": url})
        await asyncio.to_thread(stage.start, here)
        traffic = Traffic(here.port, SIZE)
        await traffic.send(scale.before)
        await asyncio.sleep(WRITTEN)
        hurt = _damage(here.log_dir, scale.bits)
        await asyncio.to_thread(stage.start, there, (), "logging-server")
        return await _judge(there, traffic, scale, hurt)


def _damage(log_dir: Path, bits: int) -> set[str]:
    """Flip bits in the newest segment; returns the paths of the exchanges in the affected blocks."""
    segment = max(log_dir.rglob("*.seg"))
    content = bytearray(segment.read_bytes())
    places = random.Random(13).sample(range(8 * len(content)), bits)
    hurt = _exchanges_at(bytes(content), int(segment.stem, 16), {bit // 8 for bit in places})
    with closing(segment.open("r+b", buffering=0)) as file:
        for bit in places:
            file.seek(bit // 8)
            file.write(bytes([content[bit // 8] ^ 1 << bit % 8]))
    return hurt


def _exchanges_at(content: bytes, first: int, places: set[int]) -> set[str]:
    """The paths of the exchanges with a record in a block that contains one of `places`."""
    reader, names, hurt = RecordReader(), dict[int, str](), set[int]()
    for (_, at), block in whole_blocks(content, first, 1 << 62):
        is_hurt = any(at <= place < block.end_in_file for place in places)
        for record in reader.feed(bytes(block.payload)):
            if record.kind == Kind.REQUEST_HEAD:
                url = decode_request_head(record.content).source_url.decode()
                names[record.exchange] = url.partition("/up")[2]
            if is_hurt:
                hurt.add(record.exchange)
    return {names[number] for number in hurt if number in names}


async def _judge(setup: Setup, traffic: Traffic, scale: Scale, hurt: set[str]) -> list[Figure]:
    await traffic.send(scale.after)
    found: Kept = await asyncio.to_thread(kept, setup, traffic)
    whole = found.whole()
    return [
        exactly("exchanges proxied", traffic.proxied(), len(traffic.answers)),
        at_least("damages, as counted", health(setup).get("spool_damages", 0), 1),
        told("exchanges in damaged blocks", len(hurt)),
        exactly(
            "exchanges outside of them, captured whole", len(whole - hurt), len(traffic.answers) - len(hurt)
        ),
        exactly("captures that are not what they say", found.lying(), 0),
    ]
