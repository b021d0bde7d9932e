"""Fault test 13: the upstream resets its connection during a response while the client uploads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.demo.captures import Capture
from logging_proxy.test.e2e.case import Setup
from logging_proxy.test.stress.figures import Figure, exactly, told
from logging_proxy.test.stress.peers import (
    CHUNKED,
    Connection,
    Request,
    chunk,
    connect,
    head,
    read_request_head,
)
from logging_proxy.test.stress.stage import Stage, captures
from logging_proxy.test.stress.upstreams import plain_and_secure

PIECE = b"data: something of an answer\n\n" * 40
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
LENGTH = 1_000_000
LONGEST = 20.0
"""Seconds after which a client treats silence as a clean end."""

WAYS = ("length", "chunked", "close", "close-to-1.0", "websocket")
"""Framings of the response; the last one switches protocols."""

INTERPRETERS = {"C": {}, "Python": {"PURE_PYTHON": "1"}}
"""The environments with and without the C extension."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Trials for each way, over TCP and TLS, with and without the C extension; how many run concurrently."""

    trials: int
    at_once: int = 10


FULL = Scale(trials=100)
SMALL = Scale(trials=3)


@dataclass(slots=True)
class Trial:
    """The bytes that a client received, and whether its connection was reset."""

    way: str
    client: Connection
    piece: bytes
    """A body to upload."""
    got: bytes = b""
    reset: bool = False

    def begun(self) -> bool:
        """Whether the client received the upstream's response rather than a 502 of the proxy."""
        return self.got[9:12] in (b"200", b"101")

    def clean(self) -> bool:
        """Whether the client saw a complete response."""
        return self.begun() and (not self.reset or self.got.endswith(b"\r\n0\r\n\r\n"))


class Resetting:
    """An upstream that sends part of a response and resets while the client sends more."""

    def __init__(self, trials: dict[str, Trial]) -> None:
        self._trials = trials
        self._random = random.Random(13)

    async def answer(self, request: Request, connection: Connection) -> None:
        trial = self._trials[request.target]
        least = int(trial.way == "websocket")  # bytes before the switch are another request
        for part in self._parts(trial.way)[: self._random.randrange(least, 7)]:
            await connection.send(part)
            await asyncio.sleep(self._random.choice((0, 0, 0.001, 0.005)))
        trial.client.writer.write(trial.piece)
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)
        connection.reset()

    def _parts(self, way: str) -> list[bytes]:
        first = {"length": head(f"Content-Length: {LENGTH}"), "chunked": head(CHUNKED), "websocket": SWITCH}
        piece = chunk(PIECE) if way == "chunked" else PIECE
        return [first.get(way, head("Connection: close")), *[piece] * 5]


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """No response ends cleanly, and no capture is complete."""
    trials, found = asyncio.run(_run(stage, scale))
    outcomes = [capture.outcome for capture in found]
    yield exactly("trials", len(trials), 2 * len(INTERPRETERS) * scale.trials * len(WAYS))
    yield told("responses that had begun", sum(trial.begun() for trial in trials))
    yield exactly("clean ends", sum(trial.clean() for trial in trials), 0)
    yield exactly("captures missing", len(trials) - len(found), 0)
    yield exactly("captures said to be complete", outcomes.count("complete"), 0)
    yield exactly("captures with another outcome", len(found) - outcomes.count("upstream_reset"), 0)


async def _run(stage: Stage, scale: Scale) -> tuple[list[Trial], list[Capture]]:
    trials: dict[str, Trial] = {}
    found: list[Capture] = []
    async with plain_and_secure(stage.folder, Resetting(trials).answer, read_request_head) as (plain, secure):
        for name, variables in INTERPRETERS.items():
            setup = stage.configure({"tcp": plain, "tls": secure})
            await asyncio.to_thread(stage.start, setup, variables=variables)
            before = len(trials)
            await _try(setup, name, scale, trials)
            found += await asyncio.to_thread(captures, setup.log_dir, len(trials) - before)
    return list(trials.values()), found


async def _try(setup: Setup, name: str, scale: Scale, trials: dict[str, Trial]) -> None:
    gate = asyncio.Semaphore(scale.at_once)

    async def one(route: str, way: str, number: int) -> None:
        async with gate:
            target = f"/{way}/{route}/{name}/{number}"
            trial = Trial(way, await connect(setup.port), b"a" if way[-1] in "0t" else b"1\r\na\r\n")
            trials[target] = trial
            await _play(trial, f"/{route}{target}")

    calls = [one(to, way, number) for number in range(scale.trials) for way in WAYS for to in ("tcp", "tls")]
    await asyncio.gather(*calls)


async def _play(trial: Trial, path: str) -> None:
    """Send the request, and continue with its body until the connection ends."""
    lines = {
        "close-to-1.0": ["Content-Length: 1000000"],
        "websocket": ["Connection: Upgrade", "Upgrade: websocket"],
    }.get(trial.way, [CHUNKED])
    version = "1.0" if trial.way == "close-to-1.0" else "1.1"
    opening = "\r\n".join([f"POST {path} HTTP/{version}", "Host: proxy.test", *lines, "", ""])
    trial.client.writer.write(opening.replace("POST", "GET" if "Upgrade" in opening else "POST").encode())
    uploading = asyncio.create_task(_upload(trial))
    try:
        async with asyncio.timeout(LONGEST):
            while data := await trial.client.reader.read(65536):
                trial.got += data
    except TimeoutError:
        pass
    except OSError:
        trial.reset = True
    uploading.cancel()
    trial.client.close()


async def _upload(trial: Trial) -> None:
    """Small pieces once the response has begun, when a tunnel is open."""
    while True:
        if trial.got:
            trial.client.writer.write(trial.piece)
        await asyncio.sleep(0.001)
