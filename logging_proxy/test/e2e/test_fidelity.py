"""
Random exchanges through the proxy: what each side got, and what the files hold.

`LOGGING_PROXY_EXCHANGES` and `LOGGING_PROXY_SEED` in the environment give more of them, or others.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from logging_proxy.demo.captures import Capture, Half, wait_for_captures
from logging_proxy.test.e2e.case import EndToEndCase
from logging_proxy.test.e2e.exchanges import HOST, Cut, Exchange, Lines, exchanges

COUNT = int(os.environ.get("LOGGING_PROXY_EXCHANGES", "75"))
"""How many different exchanges; each takes place twice, because the proxy knows heads that come again."""
SEED = int(os.environ.get("LOGGING_PROXY_SEED", "1"))
CLIENTS = 6
TIMEOUT = 60.0

NAME = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{3})_([0-9a-f]{8})_(request|response)\.bin")
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer"}
HOP_BY_HOP |= {b"transfer-encoding", b"x-own"}
TYPES: dict[str, Any] = {
    "id": str,
    "stream_type": str,
    "route": str,
    "pattern": str,
    "method": str,
    "source_url": str,
    "destination_url": str,
    "client": dict,
    "started_at": str,
    "completed_at": str,
    "processing_time_ms": (int, float),
    "headers": list,
    "status": (int, type(None)),
    "bytes": int,
    "sha256": str,
    "framing": str,
    "filename": str,
    "outcome": str,
    "error": (str, type(None)),
    "pieces": list,
    "trailers": list,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client read, taken apart."""

    interim: list[bytes]
    start: bytes
    lines: Lines
    body: bytes
    trailers: Lines
    whole: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One exchange that took place, as its client saw it."""

    exchange: Exchange
    answer: Answer
    port: int


class FidelityTests(EndToEndCase):
    def test_random_exchanges(self) -> None:
        """Bytes, order, case, file names and metadata of any exchange are those of what passed."""
        wanted = list(exchanges(SEED, COUNT))
        upstream = self.start_upstream({each.path.decode(): each.script for each in wanted})
        self.config = self.configure(upstream.port)
        self.authority = b"127.0.0.1:%d" % upstream.port
        self.start_proxy(self.config)
        with ThreadPoolExecutor(CLIENTS) as pool:
            shares = pool.map(lambda start: list(self.run_share(wanted[start::CLIENTS])), range(CLIENTS))
            outcomes = [outcome for share in shares for outcome in share]
        self.assertEqual(upstream.failures, [])
        received: dict[bytes, list[bytes]] = {}
        for request in upstream.received:
            received.setdefault(request.target.partition(b"?")[0], []).append(request.raw)
        captures = self.captures(len(outcomes))
        for outcome in outcomes:
            path = outcome.exchange.path
            with self.explained(outcome):
                self.check_request(outcome.exchange, received[path].pop(0))
                self.check_answer(outcome)
                self.check_capture(outcome, captures[path].pop(0))
        self.assertEqual({name: raw for name, raw in received.items() if raw}, {}, "sent more than once")
        self.check_names(self.config.log_dir)

    # --- running -------------------------------------------------------------------

    def run_share(self, share: list[Exchange]) -> Iterator[Outcome]:
        """Each exchange twice, on one connection as long as that lasts."""
        client = Client(self.config.port)
        for exchange in share:
            for _ in range(2):
                yield client.perform(exchange)
        client.close()

    def captures(self, count: int) -> dict[bytes, list[Capture]]:
        """The captures by the exchange's path, each path's in the order in which they began."""
        found: dict[bytes, list[Capture]] = {}
        everything = wait_for_captures(self.config.log_dir, count, timeout=60)
        self.assertEqual(len(everything), count)
        for capture in sorted(everything, key=lambda capture: str(capture.request.metadata["started_at"])):
            path = str(capture.request.metadata["destination_url"]).partition("?")[0]
            found.setdefault(path[path.rindex("/") :].encode(), []).append(capture)
        return found

    # --- what passed ----------------------------------------------------------------

    def check_request(self, exchange: Exchange, raw: bytes) -> None:
        """The upstream got what the client sent, but `Host` and what belongs to the connection."""
        head, _, wire = raw.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        self.assertEqual(start, b"%b %b HTTP/1.1" % (exchange.method, exchange.path + exchange.query))
        host, own = b"Host: " + HOST, b"Host: " + self.authority
        expected = [own if line == host else line for line in end_to_end(exchange.request.lines)]
        self.assertEqual(list(end_to_end(tuple(lines))), expected)
        request = exchange.request
        body, trailers = dechunk(wire)[:2] if request.framing == "chunked" else (wire, ())
        self.assertEqual((body, trailers), (request.body, request.trailers))

    def check_answer(self, outcome: Outcome) -> None:
        """The client got what the upstream sent, but what belongs to the connection."""
        exchange, answer = outcome.exchange, outcome.answer
        response = exchange.response
        old = exchange.request.start.endswith(b"0")
        self.assertEqual(answer.start, b"HTTP/1.1" + response.start[8:])
        self.assertEqual(answer.interim, [] if old else list(exchange.interim))
        self.assertEqual(end_to_end(answer.lines), end_to_end(response.lines))
        self.assertEqual(answer.whole, exchange.cut is Cut.NOBODY)
        if answer.whole:
            self.assertEqual(answer.body, response.body)
            self.assertEqual(answer.trailers, () if old else response.trailers)
        else:
            self.assertTrue(response.body.startswith(answer.body))

    # --- what was kept ---------------------------------------------------------------

    def check_capture(self, outcome: Outcome, capture: Capture) -> None:
        """Files and metadata."""
        exchange, request, response = outcome.exchange, capture.request, capture.response
        assert response is not None
        source = b"http://" + HOST + b"/up" + exchange.path + exchange.query
        lines = self.onward(exchange)
        proxy_path = b"X-Proxy-Path: " + source
        start = b"%b %b HTTP/1.1" % (exchange.method, exchange.path + exchange.query)
        head = b"\r\n".join((start, *lines, proxy_path, b"", b""))
        self.assert_bytes(request, head + exchange.request.body)
        self.check_half(request, lines, exchange.request.body, exchange.request.trailers)
        self.assertEqual(request.metadata["framing"], exchange.request.framing)
        body = exchange.response.body[: exchange.passed]
        self.assert_bytes(response, exchange.response.head + body)
        trailers = exchange.response.trailers if exchange.cut is Cut.NOBODY else ()
        self.check_half(response, exchange.response.lines, body, trailers)
        self.assertEqual(response.metadata["framing"], exchange.response.framing)
        self.assertEqual(response.metadata["status"], int(exchange.response.start.split(b" ")[1]))
        interim = [(each["status"], each["headers"]) for each in response.metadata["informational"]]
        self.assertEqual(interim, [taken_apart(head) for head in exchange.interim])
        destination = b"http://" + self.authority + exchange.path + exchange.query
        for half in capture.halves:
            self.check_common(half, outcome, source.decode("latin-1"), destination.decode("latin-1"))

    def onward(self, exchange: Exchange) -> Lines:
        """The request's lines as they went to the destination."""
        lines = []
        for line in exchange.request.lines:
            name = line.partition(b":")[0].lower()
            if name == b"host":
                lines.append(b"Host: " + self.authority)
            elif name == b"transfer-encoding":
                lines.append(line.partition(b":")[0] + b": chunked")  # said anew, in its plain form
            elif name not in HOP_BY_HOP or line == b"TE: trailers":
                lines.append(line)
        return tuple(lines)

    def assert_bytes(self, half: Half, expected: bytes) -> None:
        """The file holds these bytes."""
        stored = half.path.read_bytes()
        if stored != expected:
            at = next((i for i, (a, b) in enumerate(zip(stored, expected, strict=False)) if a != b), -1)
            self.fail(
                f"{half.path.name}: {len(stored)} for {len(expected)} bytes, different from {at} on: "
                f"{stored[max(0, at - 40) : at + 60]!r} for {expected[max(0, at - 40) : at + 60]!r}"
            )

    def check_half(self, half: Half, lines: Lines, body: bytes, trailers: Lines) -> None:
        """What the metadata says of headers, trailers and body."""
        metadata = half.metadata
        self.assertEqual(metadata["headers"], pairs(lines))
        self.assertEqual(metadata["trailers"], pairs(trailers))
        self.assertEqual(metadata["bytes"], len(body))
        self.assertEqual(metadata["sha256"], hashlib.sha256(body).hexdigest())
        offsets = [offset for offset, _ in metadata["pieces"]]
        times = [microseconds for _, microseconds in metadata["pieces"]]
        self.assertEqual(offsets[:1], [0] if body else [])
        self.assertEqual(offsets, sorted(set(offsets)))
        self.assertTrue(all(offset < len(body) for offset in offsets))
        self.assertEqual(times, sorted(times))

    def check_common(self, half: Half, outcome: Outcome, source: str, destination: str) -> None:
        """What both documents say."""
        metadata = half.metadata
        for key, kind in TYPES.items():
            self.assertIsInstance(metadata[key], kind, key)
        self.assertEqual(metadata["method"], outcome.exchange.method.decode())
        self.assertEqual((metadata["route"], metadata["pattern"]), ("up", "/up/"))
        self.assertEqual((metadata["source_url"], metadata["destination_url"]), (source, destination))
        self.assertEqual(metadata["client"], {"address": "127.0.0.1", "port": outcome.port})
        self.assertEqual(metadata["outcome"], outcome.exchange.cut.value)
        self.assertEqual(metadata["filename"], half.path.name)
        name = NAME.fullmatch(half.path.name)
        assert name is not None, half.path.name
        began, ended = map(datetime.fromisoformat, (metadata["started_at"], metadata["completed_at"]))
        assert began.tzinfo is not None and ended.tzinfo is not None
        self.assertLessEqual(began, ended)
        self.assertLess(abs(time.time() - began.timestamp()), 300)
        stamp = began.astimezone().strftime("%Y-%m-%d_%H-%M-%S.%f")[:-3]
        self.assertEqual(name.groups(), (stamp, metadata["id"][:8], metadata["stream_type"]))
        self.assertGreaterEqual(metadata["processing_time_ms"], 0)

    def check_names(self, folder: Path) -> None:
        """Each `.bin` has its metadata, and nothing else is there."""
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        stems = {name.removesuffix(".bin") for name in names if name.endswith(".bin")}
        self.assertEqual(names, {f"{stem}{end}" for stem in stems for end in (".bin", "_metadata.json")})

    @contextmanager
    def explained(self, outcome: Outcome) -> Iterator[None]:
        """Failures inside tell which exchange they are about."""
        try:
            yield
        except self.failureException as failure:
            exchange, answer = outcome.exchange, outcome.answer
            heads = [exchange.request.head, exchange.response.head, answer.start, answer.body]
            told = "\n".join(repr(part[:1500]) for part in heads)
            self.fail(f"{failure}\nseed {SEED}, {exchange.path!r}, {exchange.cut}:\n{told}")


class FidelityInPythonTests(FidelityTests):
    """The same without the C extension."""

    variables = {"PURE_PYTHON": "1"}


# --- a client that reads bytes -------------------------------------------------------


class Client:
    """Performs exchanges one after another; connects anew when the connection has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._raw = bytearray()

    def perform(self, exchange: Exchange) -> Outcome:
        """Send the request's pieces, and read the answer as far as it comes."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._socket
        port = connection.getsockname()[1]
        for piece in exchange.sends:
            connection.sendall(piece)
        try:
            answer = self._read(connection, exchange)
        except ConnectionResetError:
            answer = replace(take_apart(bytes(self._raw), exchange.method), whole=False)
        closes = b"connection: close" in (line.lower() for line in answer.lines)
        if closes or not answer.whole or is_delimited_by_close(answer, exchange.method):
            self.close()
        return Outcome(exchange, answer, port)

    def _read(self, connection: socket.socket, exchange: Exchange) -> Answer:
        """The answer, as far as it comes or is wanted."""
        self._raw.clear()
        while True:
            data = connection.recv(65536)
            self._raw += data
            answer = take_apart(bytes(self._raw), exchange.method)
            if exchange.cut is Cut.CLIENT and len(answer.body) >= exchange.passed:
                return replace(answer, whole=False)
            if not data or (answer.whole and not is_delimited_by_close(answer, exchange.method)):
                return answer

    def close(self) -> None:
        """Leave."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def take_apart(raw: bytes, method: bytes) -> Answer:
    """An answer, or the beginning of one."""
    interim = []
    while True:
        head, blank, rest = raw.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        if not blank or not start.startswith(b"HTTP/1.1 1"):
            break
        interim.append(head + blank)
        raw = rest
    fields = tuple(lines) if blank else ()
    body, trailers, whole = _body_of(start, fields, rest, method)
    return Answer(interim, start, fields, body, trailers, bool(blank) and whole)


def _body_of(start: bytes, lines: Lines, rest: bytes, method: bytes) -> tuple[bytes, Lines, bool]:
    if method == b"HEAD" or start[9:12] in (b"204", b"304"):
        return rest, (), not rest
    fields = {name.lower(): value.lower() for name, value in pairs(lines)}
    if fields.get("transfer-encoding") == "chunked":
        return dechunk(rest)
    if "content-length" in fields:
        return rest, (), len(rest) == int(fields["content-length"])
    return rest, (), True


def is_delimited_by_close(answer: Answer, method: bytes) -> bool:
    """Whether only the connection's end tells where the body ends."""
    names = {name.lower() for name, _ in pairs(answer.lines)}
    bodiless = method == b"HEAD" or answer.start[9:12] in (b"204", b"304")
    return not bodiless and not names & {"transfer-encoding", "content-length"}


def dechunk(wire: bytes) -> tuple[bytes, Lines, bool]:
    """Body, trailers, and whether the end was there."""
    body = b""
    while True:
        line, end, wire = wire.partition(b"\r\n")
        if not end:
            return body, (), False
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            section = b"\r\n" + wire
            if not section.endswith(b"\r\n\r\n"):
                return body, (), False
            return body, tuple(section[2:-4].split(b"\r\n")) if len(section) > 4 else (), True
        body += wire[:size]
        if len(wire) < size + 2:
            return body, (), False
        wire = wire[size + 2 :]


# --- small parts ------------------------------------------------------------------------


def end_to_end(lines: Lines) -> Lines:
    """The lines that belong to the message, and not to the connection."""
    return tuple(line for line in lines if line.partition(b":")[0].lower() not in HOP_BY_HOP)


def pairs(lines: Lines) -> list[list[str]]:
    """Names and values as metadata has them."""
    fields = (line.decode("latin-1").partition(":") for line in lines)
    return [[name, value.strip(" \t")] for name, _, value in fields]


def taken_apart(head: bytes) -> tuple[int, list[list[str]]]:
    """Status and headers of an interim answer."""
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return int(start.split(b" ")[1]), pairs(tuple(lines))
