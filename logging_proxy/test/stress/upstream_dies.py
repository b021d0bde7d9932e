"""Fault test 6: the upstream fails in the middle of a body, in every possible way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.demo.captures import Capture
from logging_proxy.test.stress.figures import Figure, exactly
from logging_proxy.test.stress.peers import (
    CHUNKED,
    Answer,
    Connection,
    Request,
    call,
    chunk,
    head,
)
from logging_proxy.test.stress.stage import Stage, captures
from logging_proxy.test.stress.upstreams import plain_and_secure

OUTCOMES = ("upstream_closed", "upstream_reset")
WAYS = {
    "length-fin": ("length", "fin"),
    "chunked-fin": ("chunked", "fin"),
    "length-rst": ("length", "rst"),
    "chunked-rst": ("chunked", "rst"),
    "tls-length": ("length", "drop"),
    "tls-chunked": ("chunked", "drop"),
    "tls-close": ("close", "drop"),
}
"""Framings of the body, and how the connection ends.  `drop` closes TLS without close_notify."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Trials for each way, and how many run concurrently."""

    trials: int
    at_once: int = 20


FULL = Scale(trials=58)
SMALL = Scale(trials=4)


@dataclass(slots=True)
class Trial:
    """One exchange: the body as the upstream sent it and as the client received it."""

    way: str
    sent: bytes
    answer: Answer

    def clean(self) -> bool:
        """Whether the client saw a complete response."""
        return self.answer.whole

    def wrong(self) -> bool:
        """Whether the client received bytes that differ from those sent."""
        got = bytes(self.answer.body)
        return not self.sent.startswith(got) or ("rst" not in self.way and got != self.sent)


class Dying:
    """An upstream that sends a part of a body, and then fails."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}
        self._random = random.Random(6)

    async def answer(self, request: Request, connection: Connection) -> None:
        framing, end = WAYS[request.target.partition("?")[0][1:]]
        body = self._random.randbytes(self._random.choice((1, 100, 5_000, 70_000)))
        self.sent[request.target] = body
        if framing == "chunked":
            await connection.send(head(CHUNKED) + chunk(body))
        else:
            lines = [f"Content-Length: {len(body) + 50}"] if framing == "length" else ["Connection: close"]
            await connection.send(head(*lines) + body)
        await asyncio.sleep(self._random.choice((0, 0, 0.02)))
        {"fin": connection.close, "rst": connection.reset, "drop": connection.drop}[end]()


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """No response ends cleanly, and outcome and byte count in the capture are exact."""
    trials, found = asyncio.run(_run(stage, scale))
    by_path = {capture.source_url.partition("/up")[2]: capture for capture in found}
    matched = [(trial, by_path.get(path)) for path, trial in trials.items()]
    yield exactly("trials", len(trials), scale.trials * len(WAYS))
    yield exactly("clean ends", sum(trial.clean() for trial in trials.values()), 0)
    yield exactly("clients with other bytes than were sent", sum(t.wrong() for t in trials.values()), 0)
    yield exactly("captures missing", sum(capture is None for _, capture in matched), 0)
    yield exactly("captures with another outcome", sum(not _fits(c) for _, c in matched), 0)
    yield exactly("captures with another count or other bytes", sum(not _same(t, c) for t, c in matched), 0)


def _fits(capture: Capture | None) -> bool:
    return capture is not None and capture.outcome in OUTCOMES


def _same(trial: Trial, capture: Capture | None) -> bool:
    """Whether the capture has exactly the received bytes; after an RST, those that the client received."""
    if capture is None or capture.response is None:
        return False
    kept, said = capture.response.body, capture.response.metadata["bytes"]
    wanted = bytes(trial.answer.body) if "rst" in trial.way else trial.sent
    return said == len(kept) and kept == wanted


async def _run(stage: Stage, scale: Scale) -> tuple[dict[str, Trial], list[Capture]]:
    dying = Dying()
    async with plain_and_secure(stage.folder, dying.answer) as (plain, secure):
        setup = stage.configure({"up": plain, "up-tls": secure})
        await asyncio.to_thread(stage.start, setup)
        gate = asyncio.Semaphore(scale.at_once)

        async def one(way: str, number: int) -> tuple[str, Trial]:
            route, path = "up-tls" if "tls" in way else "up", f"/{way}?{number}"
            async with gate:
                answer = await call(setup.port, "GET", f"/{route}{path}")
            key = f"{route}{path}".removeprefix("up")
            return key, Trial(way, dying.sent.get(path, b""), answer)

        calls = [one(way, number) for number in range(scale.trials) for way in WAYS]
        trials = dict(await asyncio.gather(*calls))
        return trials, await asyncio.to_thread(captures, setup.log_dir, len(trials))
