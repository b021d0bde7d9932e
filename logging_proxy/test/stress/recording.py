"""What the disk tests share: requests whose captures can be told apart, and the count of what is missing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from logging_proxy.demo.captures import Capture
from logging_proxy.test.e2e.case import Setup, wait_until
from logging_proxy.test.stress.figures import Figure, at_most, exactly
from logging_proxy.test.stress.peers import Answer, Connection, Request, ask, call, connect, request, response
from logging_proxy.test.stress.stage import lost_exchanges, quiet

RESUMED = 2.0
"""Seconds after which captures are written again, once they can be."""

ARRIVAL = 60.0
"""Seconds after which what has not come is missing."""

PAYLOAD = random.Random(3).randbytes(1 << 20)


@dataclass(slots=True)
class Echo:
    """An upstream that answers with what it got, and counts."""

    hits: int = 0

    async def answer(self, request: Request, connection: Connection) -> None:
        self.hits += 1
        await connection.send(response(request.body))


@dataclass(slots=True)
class Traffic:
    """Requests with bodies of a size, made by some clients, and their answers by path."""

    port: int
    size: int
    clients: int = 8
    answers: dict[str, Answer] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    async def send(self, count: int) -> None:
        """So many requests, as fast as it goes."""
        numbers = iter(range(len(self.answers), len(self.answers) + count))

        async def client() -> None:
            connection = await connect(self.port)
            for number in numbers:
                path = f"/{number}"
                self.times[path] = time.monotonic()
                data = request("POST", f"/up{path}", body=self.body(path))
                self.answers[path] = answer = await ask(connection, data)
                if not answer.keeps:
                    connection.close()
                    connection = await connect(self.port)
            connection.close()

        await asyncio.gather(*(client() for _ in range(self.clients)))

    async def until(self, good: Callable[[Answer], bool], timeout: float) -> float:
        """Ask until an answer is good; the seconds that it took."""
        began = time.monotonic()
        while time.monotonic() < began + timeout:
            path = f"/{len(self.answers)}"
            self.times[path] = time.monotonic()
            self.answers[path] = await call(self.port, "POST", f"/up{path}", body=self.body(path))
            if good(self.answers[path]):
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    def body(self, path: str) -> bytes:
        """The body of a request, which follows from its path."""
        start = int(path[1:]) % 1000
        return PAYLOAD[start : start + self.size]

    def proxied(self, statuses: tuple[int, ...] = (200,)) -> int:
        """How many were answered as the upstream does, to the last byte."""
        return sum(
            answer.whole and answer.status in statuses and bytes(answer.body) == self.body(path)
            for path, answer in self.answers.items()
        )


@dataclass(slots=True)
class Kept:
    """What was captured of some traffic."""

    traffic: Traffic
    found: list[Capture]

    def whole(self) -> set[str]:
        """The paths of the exchanges that were captured to the last byte."""
        return {path for path, capture in self._by_path().items() if self._is_whole(path, capture)}

    def holes(self) -> int:
        """Captures that say themselves that something is missing."""
        return sum(has_hole(capture) for capture in self.found)

    def lying(self) -> int:
        """Captures that are called complete and are not, without a word on what is missing."""
        return sum(
            capture.outcome == "complete" and not has_hole(capture) and not self._is_whole(path, capture)
            for path, capture in self._by_path().items()
        )

    def missing(self) -> int:
        """Exchanges of which something is not in any capture."""
        return len(self.traffic.answers) - len(self.whole())

    def resumed(self, since: float) -> float:
        """Seconds after `since` until a request was made that, like all later ones, was captured."""
        whole, late = self.whole(), 0.0
        for path, when in self.traffic.times.items():
            if when > since and path not in whole:
                late = max(late, when - since)
        return late

    def _by_path(self) -> dict[str, Capture]:
        return {capture.source_url.partition("/up")[2]: capture for capture in self.found}

    def _is_whole(self, path: str, capture: Capture) -> bool:
        body = self.traffic.body(path)
        halves = capture.halves
        return len(halves) == 2 and all(half.body == body for half in halves) and not has_hole(capture)


def has_hole(capture: Capture) -> bool:
    """Whether the capture's notes tell of lost bytes."""
    return any("capture_lost_bytes" in note for note in capture.request.metadata["notes"])


def kept(setup: Setup, traffic: Traffic) -> Kept:
    """
    What was captured, when no more comes.

    The last request must be one that can be captured: the spool keeps the order, so when that one is
    there, what is missing will not come.
    """
    last, found = list(traffic.answers)[-1], Kept(traffic, [])
    deadline = time.monotonic() + ARRIVAL
    while time.monotonic() < deadline:
        found = Kept(traffic, quiet(setup.log_dir, 0.5))
        if last in found.whole():
            break
    return found


def judge_loss(setup: Setup, kept: Kept, since: float) -> Iterator[Figure]:
    """The counter of lost exchanges is exact, no capture lies, and capturing went on in time."""
    missing = kept.missing()
    wait_until(lambda: lost_exchanges(setup) == missing)
    yield exactly("lost exchanges, as counted and as missing", lost_exchanges(setup), missing)
    yield exactly("captures that are not what they say", kept.lying(), 0)
    yield at_most("captured again after", kept.resumed(since), RESUMED, "s")
