"""Python's HTTP clients: the same bytes through the proxy as without it."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.captures import wait_for_captures
from logging_proxy.test.e2e.case import EndToEndCase
from logging_proxy.test.e2e.mirror import SCRIPTS, Mirror, Seen, Sent, latin

TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that every client can send; `pieces` are a body without a length."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    pieces: tuple[bytes, ...] = ()


UPLOAD = bytes(range(256)) * 400
ASKS = (
    Ask("GET", "/echo"),
    Ask("GET", "/echo?a=%2F&b=c+d&&e"),
    Ask("POST", "/echo", (("Content-Type", "application/json"),), b'{"a": "\xc3\xa9"}'),
    Ask("POST", "/echo", (("X-oDD", "1"), ("ACCEPT", "*/*"), ("x-empty", "")), UPLOAD),
    Ask("POST", "/echo", (), b""),
    Ask("PUT", "/echo", (), None, (b"one", b"two" * 10_000, b"\r\n0\r\n\r\n", b"three")),
    Ask("PATCH", "/echo", (("Content-Encoding", "gzip"),), b"not really"),
    Ask("DELETE", "/empty"),
    Ask("BREW", "/echo", (), b"coffee"),
    Ask("OPTIONS", "/zero"),
    Ask("HEAD", "/headed"),
    Ask("GET", "/headed"),
    Ask("GET", "/coded", (("Accept-Encoding", "gzip"),)),
    Ask("GET", "/ranged", (("Range", "bytes=10-999"),)),
    Ask("GET", "/odd", (("Cookie", "a=1; b=2"), ("Authorization", "Bearer x"))),
    Ask("GET", "/chunks"),
    Ask("GET", "/closed"),
    Ask("GET", "/same", (("If-None-Match", '"v1"'),)),
    Ask("GET", "/moved"),
    Ask("GET", "/nothing-here"),
)
HINTED = Ask("GET", "/hinted")
"""Not for http.client and what stands on it: it takes the 103 for the answer."""


class PythonClientTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.upstream = Mirror(SCRIPTS)
        self.stack.enter_context(self.upstream)
        self.config = self.configure(self.upstream.port)

    def assert_same(
        self, client: Callable[[str, int, tuple[Ask, ...]], list[Seen]], asks: tuple[Ask, ...] = ASKS
    ) -> None:
        """A client sees the same and the upstream receives the same, with the proxy as without."""
        self.start_proxy(self.config)
        direct = client("", self.upstream.port, asks)
        received = list(map(Sent.of, self.upstream.taken()))
        through = client("/up", self.config.port, asks)
        relayed = list(map(Sent.of, self.upstream.taken()))
        self.assertEqual([len(each) for each in (direct, received, through, relayed)], [len(asks)] * 4)
        for number, ask in enumerate(asks):
            self.assertEqual(through[number], direct[number], f"{ask}: what the client saw")
            self.assertEqual(relayed[number], received[number], f"{ask}: what the upstream got")
        self.assertEqual(self.upstream.failures, [])
        captures = wait_for_captures(self.config.log_dir, len(asks), timeout=60)
        self.assertEqual([capture.outcome for capture in captures], ["complete"] * len(asks))

    def test_http_client(self) -> None:
        """http.client of the standard library."""
        self.assert_same(with_http_client)

    def test_urllib3(self) -> None:
        """urllib3, with a pool of connections."""
        require("urllib3")
        self.assert_same(with_urllib3)

    def test_httpx(self) -> None:
        """httpx, with a client that keeps its connections."""
        require("httpx")
        self.assert_same(with_httpx, (*ASKS, HINTED))

    def test_aiohttp(self) -> None:
        """aiohttp, with a session."""
        require("aiohttp")
        self.assert_same(with_aiohttp, (*ASKS, HINTED))


def require(package: str) -> None:
    """Skip the test without the package."""
    if find_spec(package) is None:
        raise SkipTest(f"the package {package} is not installed")


def with_http_client(prefix: str, port: int, asks: tuple[Ask, ...]) -> list[Seen]:
    """One connection for all requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    seen = []
    for ask in asks:
        body = iter(ask.pieces) if ask.pieces else ask.body
        headers = dict(ask.headers, **({"Transfer-Encoding": "chunked"} if ask.pieces else {}))
        encode = bool(ask.pieces)
        connection.request(ask.method, prefix + ask.path, body, headers, encode_chunked=encode)
        answer = connection.getresponse()
        seen.append(Seen.of(answer.status, latin(answer.getheaders()), answer.read()))
    connection.close()
    return seen


def with_urllib3(prefix: str, port: int, asks: tuple[Ask, ...]) -> list[Seen]:
    """Bodies are read without decoding them."""
    import urllib3

    seen = []
    with urllib3.PoolManager(timeout=TIMEOUT, retries=False) as pool:
        for ask in asks:
            answer = pool.request(
                ask.method,
                f"http://127.0.0.1:{port}{prefix}{ask.path}",
                headers=dict(ask.headers),
                body=iter(ask.pieces) if ask.pieces else ask.body,
                preload_content=False,
                redirect=False,
            )
            body = b"".join(answer.stream(decode_content=False))
            seen.append(Seen.of(answer.status, latin(answer.headers.iteritems()), body))
            answer.release_conn()
    return seen


def with_httpx(prefix: str, port: int, asks: tuple[Ask, ...]) -> list[Seen]:
    """Headers as they came, bodies without decoding."""
    import httpx

    seen = []
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
        for ask in asks:
            content: bytes | Iterator[bytes] | None = iter(ask.pieces) if ask.pieces else ask.body
            url = f"http://127.0.0.1:{port}{prefix}{ask.path}"
            with client.stream(ask.method, url, headers=list(ask.headers), content=content) as answer:
                body = b"".join(answer.iter_raw())
            seen.append(Seen.of(answer.status_code, answer.headers.raw, body))
    return seen


def with_aiohttp(prefix: str, port: int, asks: tuple[Ask, ...]) -> list[Seen]:
    """A loop of its own, which is gone afterwards."""
    return asyncio.run(_with_aiohttp(f"http://127.0.0.1:{port}{prefix}", asks))


async def _with_aiohttp(base: str, asks: tuple[Ask, ...]) -> list[Seen]:
    import aiohttp
    from yarl import URL

    seen = []
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        for ask in asks:
            async with session.request(
                ask.method,
                URL(base + ask.path, encoded=True),
                headers=ask.headers,
                data=_each(ask.pieces) if ask.pieces else ask.body,
                allow_redirects=False,
            ) as answer:
                seen.append(Seen.of(answer.status, answer.raw_headers, await answer.read()))
    return seen


async def _each(pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
