"""What the files hold is what passed, byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

from logging_proxy.demo.captures import Half, wait_for_captures
from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import EndToEndCase
from logging_proxy.test.e2e.client import Call, get, post, request
from logging_proxy.test.e2e.upstream import End, Received

BINARY = random.Random(1).randbytes(200_000) + bytes(range(256))
CODED = gzip.compress(b"the same line again\n" * 10_000, mtime=0)
STREAMS = 100
EVENTS = 20


def coded(request: Received) -> list[bytes]:
    """A gzip-coded answer, which nobody on the way may open."""
    return [upstream.answer(CODED, b"Content-Encoding: gzip", b"Content-Type: text/plain")]


def torn(request: Received) -> list[upstream.Step]:
    """A stream that is cut in the middle of a character."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, upstream.chunk(b"data: one\n\n"), 0.05, upstream.chunk(b"data: \xe2\x82"), 0.05, End.RESET]


def refuse(request: Received) -> list[upstream.Step]:
    """An answer that does not wait for the request's body."""
    return [upstream.answer(b"too large", status=b"413 Content Too Large"), End.CLOSE]


class CaptureTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        scripts = {
            "/echo": upstream.echo,
            "/coded": coded,
            "/torn": torn,
            "/trailers": upstream.chunked([b"one", b"two"], b"Trailer: X-Sum", trailers=b"X-Sum: 2\r\n"),
            "/events": upstream.events(EVENTS, gap=0.02),
        }
        self.upstream = self.start_upstream(scripts, early={"/refuse": refuse})
        self.config = self.configure(self.upstream.port)
        self.start_proxy(self.config)

    def assert_body(self, half: Half | None, body: bytes) -> None:
        """The stored body, its length and its digest are those of `body`."""
        assert half is not None
        self.assertEqual(half.body, body)
        self.assertEqual(half.metadata["bytes"], len(body))
        self.assertEqual(half.metadata["sha256"], hashlib.sha256(body).hexdigest())
        self.assertEqual(half.metadata["filename"], half.path.name)

    def test_binary_both_ways(self) -> None:
        """A body of every byte value arrives, comes back, and lies in both files."""
        call = post(self.config.port, "/up/echo", BINARY)
        self.assertEqual((call.status, call.body), (200, BINARY))
        capture = self.capture_of(self.config, "/up/echo")
        self.assertEqual(capture.outcome, "complete")
        self.assert_body(capture.request, BINARY)
        self.assert_body(capture.response, BINARY)

    def test_request_head(self) -> None:
        """The request's file begins with what the upstream received, and the URL that the client used."""
        lines = ("X-oDD: 1", "x-odd:  two ", "ACCEPT: */*")
        get(self.config.port, "/up/echo?a=%2F&b", *lines)
        capture = self.capture_of(self.config, "/up/echo?a=%2F&b")
        (received,) = self.upstream.received
        head = received.raw.partition(b"\r\n\r\n")[0]
        added = b"\r\nX-Proxy-Path: http://proxy.test/up/echo?a=%2F&b"
        self.assertEqual(capture.request.head, head + added)
        self.assertEqual(received.target, b"/echo?a=%2F&b")
        names = [name for name, _ in received.headers]
        self.assertEqual(names, [b"Host", b"X-oDD", b"x-odd", b"ACCEPT"])

    def test_chunked_request(self) -> None:
        """A chunked body is stored without its chunks and with its trailers in the metadata."""
        framed = b"".join(map(upstream.chunk, (b"ab", BINARY, b"c"))) + b"0\r\nX-Sum: 3\r\n\r\n"
        call = post(self.config.port, "/up/echo", framed, "Transfer-Encoding: chunked", "Trailer: X-Sum")
        self.assertEqual(call.body, b"ab" + BINARY + b"c")
        capture = self.capture_of(self.config, "/up/echo")
        self.assert_body(capture.request, call.body)
        self.assertEqual(capture.request.metadata["trailers"], [["X-Sum", "3"]])
        self.assertEqual(self.upstream.received[0].trailers, [(b"X-Sum", b"3")])

    def test_content_coding(self) -> None:
        """A coded body is passed on and stored as it came."""
        call = get(self.config.port, "/up/coded", "Accept-Encoding: gzip")
        self.assertEqual(call.body, CODED)
        self.assert_body(self.capture_of(self.config, "/up/coded").response, CODED)

    def test_trailers(self) -> None:
        """A response's trailers reach the client and the metadata."""
        call = get(self.config.port, "/up/trailers", "TE: trailers")
        self.assertEqual((call.body, call.trailers), (b"onetwo", [(b"X-Sum", b"2")]))
        response = self.capture_of(self.config, "/up/trailers").response
        self.assert_body(response, b"onetwo")
        assert response is not None
        self.assertEqual(response.metadata["trailers"], [["X-Sum", "2"]])

    def test_torn_stream(self) -> None:
        """A stream that the upstream cuts is cut for the client, kept to its last byte, and not complete."""
        call = get(self.config.port, "/up/torn")
        self.assertFalse(call.whole)
        self.assertEqual(call.body, b"data: one\n\ndata: \xe2\x82")
        capture = self.capture_of(self.config, "/up/torn")
        self.assertIn(capture.outcome, ("upstream_reset", "upstream_closed"))
        self.assert_body(capture.response, call.body)

    def test_early_answer(self) -> None:
        """An answer that comes before the request's body has ended is passed on at once."""
        with Call(self.config.port, request("POST", "/up/refuse", "Content-Length: 1000000")) as call:
            call.send(b"x" * 1000)
            call.read()
        self.assertEqual((call.status, call.body), (413, b"too large"))
        self.assert_body(self.capture_of(self.config, "/up/refuse").response, b"too large")

    def test_concurrent_streams(self) -> None:
        """A hundred streams at once stay apart, on the wire and in the files."""
        paths = [f"/up/events?s{number}" for number in range(STREAMS)]
        with ThreadPoolExecutor(STREAMS) as pool:
            calls = list(pool.map(lambda path: get(self.config.port, path), paths))
        captures = wait_for_captures(self.config.log_dir, STREAMS, timeout=60)
        by_path = {capture.source_url.partition("/up/")[2]: capture for capture in captures}
        self.assertEqual(len(captures), STREAMS)
        for number, call in enumerate(calls):
            body = b"".join(upstream.event(f"s{number}", index) for index in range(EVENTS))
            self.assertEqual((call.whole, call.body), (True, body))
            capture = by_path[f"events?s{number}"]
            self.assertEqual(capture.outcome, "complete")
            self.assert_body(capture.response, body)
