"""Fault test 10: destinations that are unreachable or not trusted."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from logging_proxy.demo.captures import Capture
from logging_proxy.demo.processes import free_port
from logging_proxy.test import certificates
from logging_proxy.test.stress.figures import Figure, at_most, between, exactly
from logging_proxy.test.stress.peers import Answer, Connection, Upstream, call
from logging_proxy.test.stress.peers import Request as UpstreamRequest
from logging_proxy.test.stress.stage import Stage, captures
from logging_proxy.test.stress.upstreams import server_tls

SECRET = "sk-very-secret"
SLACK = 0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """Trials of each fault, and the time-outs that are configured."""

    trials: int
    timeout: float


FULL = Scale(trials=20, timeout=3)
SMALL = Scale(trials=2, timeout=5)


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected result of a fault; `slow` faults end with the time-out."""

    destination: str
    status: int
    outcome: str
    reason: str
    slow: bool = False


class Silent:
    """TLS servers that count the bytes received after the handshake."""

    def __init__(self) -> None:
        self.heard = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard += len(await reader.read(65536))
        except (OSError, ssl.SSLError):
            pass
        writer.close()


async def never(request: UpstreamRequest, connection: Connection) -> None:
    """No answer."""
    await connection.left()


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """The right status in time, no data sent to untrusted servers, and the reason in the capture."""
    expected, answers, found, heard = asyncio.run(_run(stage, scale))
    by_name: dict[str, list[Capture]] = {name: [] for name in expected}
    for capture in found:
        by_name[str(capture.request.metadata["route"])].append(capture)
    for name, wanted in expected.items():
        yield from _judge(name, wanted, answers[name], by_name[name], scale)
    yield exactly("bytes told to who could not be trusted", heard, 0)
    bodies = b"".join(bytes(answer.body) for each in answers.values() for answer, _ in each)
    yield exactly("secrets in the answers", bodies.count(SECRET.encode()), 0)


def _judge(
    name: str, wanted: Expected, answers: list[tuple[Answer, float]], found: list[Capture], scale: Scale
) -> Iterator[Figure]:
    statuses = sorted({answer.status for answer, _ in answers})
    times = [seconds for _, seconds in answers]
    yield exactly(f"{name}: status", " ".join(map(str, statuses)), str(wanted.status))
    if wanted.slow:
        yield between(f"{name}: time", times, scale.timeout - SLACK, scale.timeout + SLACK, "s")
    else:
        yield at_most(f"{name}: time, worst", max(times), scale.timeout + SLACK, "s")
    right = [c for c in found if c.outcome == wanted.outcome and _explains(c, wanted.reason)]
    yield exactly(f"{name}: {wanted.outcome}, with the reason", len(right), scale.trials)


def _explains(capture: Capture, reason: str) -> bool:
    return reason in str(capture.request.metadata["error"]).lower()


async def _run(
    stage: Stage, scale: Scale
) -> tuple[dict[str, Expected], dict[str, list[tuple[Answer, float]]], list[Capture], int]:
    silent = Silent()
    async with AsyncExitStack() as stack:
        expected = await _destinations(stage.folder, silent, stack)
        authority = stage.folder / "authority.pem"
        authority.write_bytes(certificates.AUTHORITY)
        routes = {
            name: {"destination": each.destination}
            | ({"tls": {"ca_file": str(authority)}} if each.destination.startswith("https") else {})
            for name, each in expected.items()
        }
        limits = {"connect_timeout": scale.timeout, "head_timeout": scale.timeout}
        setup = stage.configure(routes, http_client=limits)
        await asyncio.to_thread(stage.start, setup)

        async def one(name: str) -> tuple[Answer, float]:
            began = time.monotonic()
            lines = (f"Authorization: Bearer {SECRET}", f"Cookie: session={SECRET}")
            answer = await call(setup.port, "POST", f"/{name}/?key={SECRET}", *lines, body=SECRET.encode())
            return answer, time.monotonic() - began

        answers = {
            name: list(await asyncio.gather(*(one(name) for _ in range(scale.trials)))) for name in expected
        }
        found = await asyncio.to_thread(captures, setup.log_dir, scale.trials * len(expected))
        return expected, answers, found, silent.heard


async def _destinations(folder: Path, silent: Silent, stack: AsyncExitStack) -> dict[str, Expected]:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    async def tls(name: str, identity: certificates.Identity) -> str:
        (folder / name).mkdir()
        context = server_tls(folder / name, identity)
        server = await asyncio.start_server(silent.serve, "127.0.0.1", 0, ssl=context)
        stack.push_async_callback(_close, server)
        return f"https://localhost:{server.sockets[0].getsockname()[1]}/"

    stranger = certificates.identity("localhost", authority=trustme.CA())
    expired = certificates.identity("localhost", not_after=past)
    named = certificates.identity("another.example")
    mute = await stack.enter_async_context(Upstream(never))
    hole = f"127.0.0.1:{stack.enter_context(black_hole())}"
    deaf = await stack.enter_async_context(Upstream(never))
    return {
        "no-such-name": Expected("http://no-such-name.invalid/", 502, "connect_failed", "no-such-name"),
        "refused": Expected(f"http://127.0.0.1:{free_port()}/", 502, "connect_failed", "refused"),
        "black-hole": Expected(f"http://{hole}/", 504, "connect_failed", "", slow=True),
        "unknown-authority": Expected(await tls("stranger", stranger), 502, "tls_failed", "not trusted"),
        "self-signed": Expected(
            await tls("self", certificates.self_signed("localhost")), 502, "tls_failed", "self-signed"
        ),
        "expired": Expected(await tls("expired", expired), 502, "tls_failed", "expired on"),
        "wrong-name": Expected(
            await tls("named", named), 502, "tls_failed", "is for another.example, not for localhost"
        ),
        "no-handshake": Expected(f"https://localhost:{deaf.port}/", 504, "tls_failed", "", slow=True),
        "no-answer": Expected(mute.url, 504, "upstream_timeout", "", slow=True),
    }


async def _close(server: asyncio.Server) -> None:
    server.close()


@contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 whose backlog is full, so that connecting neither succeeds nor fails."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port
