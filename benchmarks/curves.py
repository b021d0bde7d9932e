"""How the cost of Logging Proxy grows with connections, routes and body sizes, and its memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks import loads
from benchmarks.contenders import PREFIX
from benchmarks.processes import Server, Trouble
from benchmarks.stage import Stage

CONNECTIONS = (1, 4, 16, 64, 256, 1000)
ROUTES = (1, 10, 100, 1000, 10_000)
SIZES = tuple(1 << power for power in range(10, 31, 2))
IDLE = (500, 1000, 1500, 2000)
STREAMS = (250, 500, 750, 1000)
MOST_REQUESTS = 4000
BYTES = 128 << 20
"""Bytes sent of each size: at least one body and at most a few thousand."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The values of one or several lines at common points."""

    title: str
    x: str
    y: str
    points: tuple[int, ...]
    lines: dict[str, list[float]] = field(default_factory=dict)
    both_logarithmic: bool = False
    x_is_logarithmic: bool = True
    x_in_bytes: bool = False
    note: str = ""


def connections(stage: Stage, seconds: int) -> Curve:
    """CPU per request, by the number of concurrent connections."""
    title = "CPU per request by connections"
    curve = Curve(title, "connections", "µs of CPU per request", CONNECTIONS)
    for label, capture in (("capture on", True), ("capture off", False)):
        with _alone(stage, capture) as (server, port):
            curve.lines[label] = [_request(stage, server, port, count, seconds) for count in CONNECTIONS]
    return curve


def routes(stage: Stage, seconds: int) -> Curve:
    """CPU per request, by the number of routes in the configuration."""
    curve = Curve("CPU per request by routes", "routes", "µs of CPU per request", ROUTES)
    for label, capture in (("capture on", True), ("capture off", False)):
        values = curve.lines[label] = []
        for count in ROUTES:
            with _alone(stage, capture, count) as (server, port):
                values.append(_request(stage, server, port, 64, seconds))
    return curve


def _request(stage: Stage, server: Server, port: int, count: int, seconds: int) -> float:
    """Microseconds of CPU in the proxy process per request, after a warm-up of one second."""
    loads.post(port, stage.load_processor, count, 1)
    before = server.cpu()
    work = _sound(loads.post(port, stage.load_processor, count, seconds))
    return (server.cpu() - before) / work.units * 1e6


def sizes(stage: Stage, seconds: int) -> Curve:
    """CPU per byte, by body size, in both directions."""
    curve = Curve(
        "CPU per byte by size of the body", "size of the body", "ns of CPU per byte", SIZES,
        both_logarithmic=True, x_in_bytes=True,
        note="Small bodies cost what their exchange costs; four connections are busy at once.",
    )  # fmt: skip
    for label, capture in (("capture on", True), ("capture off", False)):
        for way, up in (("down", False), ("up", True)):
            with _alone(stage, capture) as (server, port):
                values = [_byte(stage, server, port, size, up) for size in SIZES]
                curve.lines[f"{way}, {label}"] = values
    return curve


def _byte(stage: Stage, server: Server, port: int, size: int, up: bool) -> float:
    """Nanoseconds of CPU in the proxy process per byte."""
    requests = max(1, min(MOST_REQUESTS, BYTES // size))
    before = server.cpu()
    work = _sound(loads.bodies(port, stage.load_processor, size, requests, up, min(4, requests)))
    return (server.cpu() - before) / work.units * 1e9


@contextmanager
def _alone(stage: Stage, capture: bool, routes: int = 1) -> Iterator[tuple[Server, int]]:
    """Logging Proxy with its logging server stopped, so that the two do not share the processor."""
    with stage.our_proxy(capture, routes) as (server, port):
        server.hold_children()
        yield server, port


def _sound(work: loads.Work) -> loads.Work:
    if work.figures["errors"]:
        raise Trouble(f"{work.figures['errors']:.0f} requests have failed")
    return work


# --- memory ------------------------------------------------------------------------------

REQUEST = (
    f"POST {PREFIX}%s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    'Content-Length: 15\r\n\r\n{"stream":true}'
)
ASK = (REQUEST % "/v1/chat/completions").encode()
STREAM = (REQUEST % "/v1/stream?n=600&gap=500ms").encode()


def idle(stage: Stage, seconds: int) -> Curve:
    """Memory of the proxy process, by idle client connections that have had one response."""
    return _memory(stage, "Memory by idle connections", "idle connections", IDLE, ASK, b'"usage"')


def running(stage: Stage, seconds: int) -> Curve:
    """Memory of the proxy process, by running streams."""
    return _memory(stage, "Memory by running streams", "running streams", STREAMS, STREAM, b'"token0 "')


def _memory(stage: Stage, title: str, x: str, points: tuple[int, ...], ask: bytes, sign: bytes) -> Curve:
    curve = Curve(title, x, "KiB for each", points, x_is_logarithmic=False)
    with stage.our_proxy() as (server, port), ExitStack() as stack:
        loads.post(port, stage.load_processor, 1, 1)
        server.settle()
        before = server.memory()
        values = curve.lines["capture on"] = []
        opened = 0
        for count in points:
            for _ in range(opened, count):
                _ask(stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)), ask, sign)
            opened = count
            time.sleep(1)
            values.append((server.memory() - before) / count / 1024)
    return curve


def _ask(client: socket.socket, ask: bytes, sign: bytes) -> None:
    """Send a request, and return once `sign` has arrived, which proves that the response is right."""
    client.sendall(ask)
    received = b""
    while sign not in received:
        data = client.recv(65536)
        if not data:
            raise Trouble("the proxy has closed a connection")
        received += data


CURVES: dict[str, Callable[[Stage, int], Curve]] = {
    "connections": connections,
    "routes": routes,
    "sizes": sizes,
    "idle": idle,
    "running": running,
}
