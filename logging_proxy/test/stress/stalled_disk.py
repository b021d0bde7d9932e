"""Fault test 5: the disk stalls for some seconds."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.demo.captures import Capture
from logging_proxy.test.stress.bad_disk import bad_twistd
from logging_proxy.test.stress.figures import (
    Figure,
    at_most,
    exactly,
    percentile,
    reached,
    told,
)
from logging_proxy.test.stress.large_body import Peak
from logging_proxy.test.stress.peers import (
    CHUNKED,
    EVENTS,
    Answer,
    Connection,
    Request,
    Upstream,
    call,
    chunk,
    head,
    response,
)
from logging_proxy.test.stress.stage import Stage, captures

STREAMS = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds of the stall, and bytes of each stream, which together exceed the ring."""

    stall: float
    size: int


FULL = Scale(stall=5, size=2 << 20)
SMALL = Scale(stall=1.5, size=800 << 10)


class Streaming:
    """An upstream whose streams would end during the stall without back-pressure."""

    def __init__(self, scale: Scale) -> None:
        self._noise = random.Random(5).randbytes(scale.size)
        self._pieces = 50
        self._gap = scale.stall / 2 / self._pieces

    async def answer(self, request: Request, connection: Connection) -> None:
        if request.target == "/small":
            await connection.send(response(b"yes"))
            return
        await connection.send(head(CHUNKED, EVENTS))
        for piece in self.pieces(request.target):
            await connection.send(chunk(piece))
            await asyncio.sleep(self._gap)
        await connection.send(chunk(b""))

    def pieces(self, target: str) -> Iterator[bytes]:
        """The pieces of a stream."""
        size = len(self._noise) // self._pieces
        for number in range(self._pieces):
            start = number * size
            yield target.encode() + self._noise[start : start + size - len(target)]


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Recorded streams wait, others do not; memory does not grow, and nothing is lost."""
    streaming = Streaming(scale)
    answers, plain, held, growth, found = asyncio.run(_run(stage, scale, streaming))
    by_path = {capture.source_url.partition("/up")[2]: capture for capture in found}
    wanted = {path: b"".join(streaming.pieces(path)) for path in answers}
    wrong = [path for path, answer in answers.items() if not answer.whole or answer.body != wanted[path]]
    kept = [path for path in answers if _is_kept(by_path.get(path), wanted[path])]
    yield reached("streams held up at the end of the stall", held, 1)
    yield at_most("RSS of the proxy, growth", growth, 64, "MiB")
    yield told("requests to the route without logging", len(plain))
    yield at_most("route without logging, p99", percentile(plain, 0.99) * 1000, 50, "ms")
    yield exactly("streams that did not reach the client whole", len(wrong), 0)
    yield exactly("streams captured to the last byte", len(kept), STREAMS)


def _is_kept(capture: Capture | None, wanted: bytes) -> bool:
    if capture is None or capture.response is None or capture.outcome != "complete":
        return False
    digest = hashlib.sha256(wanted).hexdigest()
    return capture.response.body == wanted and capture.response.metadata["sha256"] == digest


async def _run(
    stage: Stage, scale: Scale, streaming: Streaming
) -> tuple[dict[str, Answer], list[float], int, float, list[Capture]]:
    command_file = stage.folder / "told"
    async with Upstream(streaming.answer) as upstream:
        plain_route = {"destination": upstream.url, "logging": False}
        setup = stage.configure({"up": upstream.url, "plain": plain_route})
        program = await asyncio.to_thread(stage.start, setup, bad_twistd(command_file))
        answers: dict[str, Answer] = {}
        for _ in range(20):
            await call(setup.port, "GET", "/plain/small")

        async def stream(number: int) -> None:
            answers[f"/{number}"] = await call(setup.port, "GET", f"/up/{number}")

        with Peak(program.process.pid) as peak:
            command_file.write_text("stall")
            streams = [asyncio.create_task(stream(number)) for number in range(STREAMS)]
            plain = await _ask_now_and_then(setup.port, scale.stall)
            held = sum(not task.done() for task in streams)
            command_file.write_text("")
            await asyncio.gather(*streams)
        found = await asyncio.to_thread(captures, setup.log_dir, STREAMS)
    return answers, plain, held, peak.growth[0], found


async def _ask_now_and_then(port: int, seconds: float) -> list[float]:
    """Durations of requests to the route without logging, for `seconds`."""
    until, times = time.monotonic() + seconds, []
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await call(port, "GET", "/plain/small")
        times.append(time.monotonic() - began if answer.whole else seconds)
        await asyncio.sleep(0.01)
    return times
