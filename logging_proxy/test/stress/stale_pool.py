"""Fault test 9: the upstream closes a kept connection while the next request is being sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.test.stress.figures import Figure, exactly, reached, told
from logging_proxy.test.stress.peers import (
    Answer,
    Connection,
    Request,
    Upstream,
    ask,
    connect,
    request,
    response,
)
from logging_proxy.test.stress.stage import Stage, captures

LONGEST = 0.005
"""Maximum seconds from a response to the close."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Requests of each method, and concurrent clients."""

    requests: int
    clients: int = 8


FULL = Scale(requests=10_000)
SMALL = Scale(requests=300)


class Fickle:
    """An upstream that responds, and closes the connection at a random moment soon after."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._random = random.Random(9)

    async def answer(self, request: Request, connection: Connection) -> None:
        self.seen[f"{request.method} {request.target}"] += 1
        await connection.send(response(b"yes"))
        delay = self._random.uniform(0, LONGEST)
        asyncio.get_running_loop().call_later(delay, connection.close)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """No POST reaches the upstream twice; no GET fails."""
    seen, answers, reused, retried = asyncio.run(_run(stage, scale))
    doubled = [what for what, times in seen.items() if times > 1]
    failed = [what for what, answer in answers.items() if not answer.whole or answer.status != 200]
    yield exactly("requests answered", len(answers), 2 * scale.requests)
    yield exactly("POSTs that arrived twice", _of("POST", doubled), 0)
    yield exactly("GETs that failed", _of("GET", failed), 0)
    yield told("POSTs that failed, as they must not be sent twice", _of("POST", failed))
    yield reached("requests on a used connection", reused, scale.requests // 10)
    yield told("GETs tried again, as captured", retried)


def _of(method: str, whats: list[str]) -> int:
    return sum(what.startswith(method) for what in whats)


async def _run(stage: Stage, scale: Scale) -> tuple[Counter[str], dict[str, Answer], int, int]:
    fickle = Fickle()
    answers: dict[str, Answer] = {}
    async with Upstream(fickle.answer) as upstream:
        setup = stage.configure({"up": upstream.url})
        await asyncio.to_thread(stage.start, setup)
        work = [(method, number) for number in range(scale.requests) for method in ("POST", "GET")]
        work.reverse()

        async def client() -> None:
            connection = await connect(setup.port)
            while work:
                method, number = work.pop()
                body = b"a body" if method == "POST" else b""
                answer = await ask(connection, request(method, f"/up/{number}", body=body))
                answers[f"{method} /{number}"] = answer
                if not answer.keeps:
                    connection.close()
                    connection = await connect(setup.port)
                await asyncio.sleep(random.uniform(0, LONGEST))
            connection.close()

        await asyncio.gather(*(client() for _ in range(scale.clients)))
        reused = sum(fickle.seen.values()) - upstream.connections
        found = await asyncio.to_thread(captures, setup.log_dir, len(answers))
    retried = sum(any("retry" in note for note in each.request.metadata["notes"]) for each in found)
    return fickle.seen, answers, reused, retried
