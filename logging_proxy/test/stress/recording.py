"""Shared by the disk tests: requests with distinguishable captures, and counts of missing ones."""

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
"""Seconds within which captures resume once the fault is over."""

ARRIVAL = 60.0
"""Seconds after which a capture that has not been stored counts as missing."""

PAYLOAD = random.Random(3).randbytes(1 << 20)


@dataclass(slots=True)
class Echo:
    """An upstream that echoes the request's body and counts requests."""

    hits: int = 0

    async def answer(self, request: Request, connection: Connection) -> None:
        self.hits += 1
        await connection.send(response(request.body))


@dataclass(slots=True)
class Traffic:
    """Requests with bodies of one size from several clients, and their answers by path."""

    port: int
    size: int
    clients: int = 8
    answers: dict[str, Answer] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    async def send(self, count: int) -> None:
        """Make `count` requests as fast as possible."""
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
        """Make requests until an answer is `good` or the time is over; returns the seconds taken."""
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
        """The body of a request, derived from its path."""
        start = int(path[1:]) % 1000
        return PAYLOAD[start : start + self.size]

    def proxied(self, statuses: tuple[int, ...] = (200,)) -> int:
        """The number of requests with exactly the upstream's response."""
        return sum(
            answer.whole and answer.status in statuses and bytes(answer.body) == self.body(path)
            for path, answer in self.answers.items()
        )


@dataclass(slots=True)
class Kept:
    """The captures of some traffic."""

    traffic: Traffic
    found: list[Capture]

    def whole(self) -> set[str]:
        """The paths of the exchanges that were captured completely."""
        return {path for path, capture in self._by_path().items() if self._is_whole(path, capture)}

    def holes(self) -> int:
        """Captures that say that bytes are missing."""
        return sum(has_hole(capture) for capture in self.found)

    def lying(self) -> int:
        """Captures that claim to be complete although bytes are missing."""
        return sum(
            capture.outcome == "complete" and not has_hole(capture) and not self._is_whole(path, capture)
            for path, capture in self._by_path().items()
        )

    def missing(self) -> int:
        """The number of exchanges that were not captured completely."""
        return len(self.traffic.answers) - len(self.whole())

    def resumed(self, since: float) -> float:
        """Seconds from `since` to the first request from which on all were captured."""
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
    """Whether the capture's notes mention lost bytes."""
    return any("capture_lost_bytes" in note for note in capture.request.metadata["notes"])


def kept(setup: Setup, traffic: Traffic) -> Kept:
    """
    The captures of `traffic`, once no more will be stored.

    The last request must be one that can be captured: the spool keeps the order, so once it is stored, no
    missing capture will follow.
    """
    last, found = list(traffic.answers)[-1], Kept(traffic, [])
    deadline = time.monotonic() + ARRIVAL
    while time.monotonic() < deadline:
        found = Kept(traffic, quiet(setup.log_dir, 0.5))
        if last in found.whole():
            break
    return found


def judge_loss(setup: Setup, kept: Kept, since: float) -> Iterator[Figure]:
    """The counter of lost exchanges is exact, no capture is wrong, and capturing resumed in time."""
    missing = kept.missing()
    wait_until(lambda: lost_exchanges(setup) == missing)
    yield exactly("lost exchanges, as counted and as missing", lost_exchanges(setup), missing)
    yield exactly("captures that are not what they say", kept.lying(), 0)
    yield at_most("captured again after", kept.resumed(since), RESUMED, "s")
