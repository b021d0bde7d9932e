"""Any exchange, split anywhere: both sides and the capture have the same message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage

Fields = list[tuple[bytes, bytes]]

_NAMES = st.sampled_from(
    [b"X-A", b"x-a", b"X-B", b"Cookie", b"cookie", b"Accept-Encoding", b"Set-Cookie", b"ETag"]
)
_VALUES = st.text('abcXYZ019 ;,="/\t~\xe9', max_size=12).map(lambda text: text.strip(" \t").encode("latin-1"))
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5)
_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@dataclass(frozen=True)
class Message:
    """A body, how it is framed, and the fields beside it."""

    fields: Fields
    body: bytes
    framing: str
    chunks: list[int]
    trailers: Fields
    codings: Fields = field(default_factory=list)

    def framed(self) -> tuple[bytes, bytes]:
        """The field lines and the body's wire bytes."""
        own = [*self.fields, *self.codings]
        if self.framing == "length":
            own.append((b"Content-Length", b"%d" % len(self.body)))
            wire = self.body
        elif self.framing == "chunked":
            own.insert(0, (b"transfer-ENCODING", b"chunked"))
            wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces(self.body, self.chunks))
            wire += b"0\r\n" + lines(self.trailers) + b"\r\n"
        else:
            wire = self.body
        return lines(own), wire


def lines(fields: Fields) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in fields)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    cut, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        cut.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return cut


def messages(*framings: str) -> st.SearchStrategy[Message]:
    coding = st.sampled_from([[], [(b"Content-Encoding", b"gzip")], [(b"content-encoding", b"br, zstd")]])
    trailers = st.lists(st.tuples(st.sampled_from([b"X-T", b"x-sum"]), _VALUES), max_size=2)
    return st.builds(
        Message, _FIELDS, st.binary(max_size=200), st.sampled_from(framings), _SIZES, trailers, coding
    )


@dataclass
class Parsed:
    """h11's reading of bytes that are one message."""

    start: h11.Request | h11.Response
    body: bytes = b""
    trailers: Fields = field(default_factory=list)


def parsed(data: bytes, role: Any, method: bytes = b"", ended: bool = False) -> Parsed:
    connection = h11.Connection(role)
    if role is h11.CLIENT:
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    start = connection.next_event()
    assert isinstance(start, h11.Request | h11.Response), start
    found = Parsed(start)
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        found.body += bytes(event.data)
    found.trailers = event.headers.raw_items()
    rest, _ = connection.trailing_data
    assert rest == b"", rest
    return found


def plain(fields: Fields) -> Fields:
    """The fields that must be equal on both sides: without framing and hop-by-hop fields."""
    own = (b"host", b"connection", b"content-length", b"transfer-encoding")
    return [(name, value) for name, value in fields if name.lower() not in own]


class AnyExchangeTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(
        method=st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"brew"]),
        target=st.sampled_from([b"", b"x", b"a%2Fb", b"%25zz?q=%zz", b"c;p?x=1&&y"]),
        request=messages("length", "chunked", "none"),
        response=messages("length", "chunked", "close"),
        minor=st.sampled_from([0, 1, 1, 1]),
        request_splits=_SIZES,
        response_splits=_SIZES,
        slow_connect=st.booleans(),
    )
    def test_same_everywhere(
        self,
        method: bytes,
        target: bytes,
        request: Message,
        response: Message,
        minor: int,
        request_splits: list[int],
        response_splits: list[int],
        slow_connect: bool,
    ) -> None:
        """The upstream gets one request, the client one response: those that were sent, and were kept."""
        if request.framing == "chunked" and minor == 0:
            minor = 1
        sent_body = request.body if request.framing != "none" else b""
        fields, wire = request.framed()
        start = b"%b /api/%b HTTP/1.%d\r\nHost: h\r\n" % (method, target, minor)
        stage = Stage()
        stage.endpoint.manual = slow_connect
        client = stage.client()
        for piece in pieces(
            start + fields + b"\r\n" + (wire if request.framing != "none" else b""), request_splits
        ):
            client.deliver(piece)
        if slow_connect:
            stage.endpoint.finish()
            stage.turn()
        upstream = stage.upstream
        seen = parsed(upstream.received(), h11.SERVER)
        assert isinstance(seen.start, h11.Request)
        self.assertEqual((seen.start.method, seen.start.target), (method, b"/" + target))
        self.assertEqual(plain(seen.start.headers.raw_items()), plain(request.fields + request.codings))
        self.assertEqual([v for n, v in seen.start.headers if n == b"host"], [b"up.example"])
        self.assertEqual(seen.body, sent_body)
        if request.framing == "chunked":
            self.assertEqual(seen.trailers, request.trailers)

        fields, wire = response.framed()
        bodiless = method == b"HEAD"
        for piece in pieces(
            b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + (b"" if bodiless else wire), response_splits
        ):
            upstream.deliver(piece)
        if response.framing == "close" and not bodiless:
            upstream.fin()
        stage.turn()
        got = parsed(client.received(), h11.CLIENT, method, client.closed)
        assert isinstance(got.start, h11.Response)
        expected = b"" if bodiless else response.body
        self.assertEqual(plain(got.start.headers.raw_items()), plain(response.fields + response.codings))
        self.assertEqual(got.body, expected)
        if response.framing == "chunked" and minor and not bodiless:
            self.assertEqual(got.trailers, response.trailers)

        capture = stage.capture
        self.assertEqual(stage.problems(), [])
        self.assertEqual(capture.outcome, "complete")
        self.assertEqual(capture.body(Kind.REQUEST_PIECE), sent_body)
        self.assertEqual(capture.body(Kind.RESPONSE_PIECE), expected)
        self.assertEqual(capture.body(Kind.RESPONSE_HEAD), b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        recorded = parsed_head(capture.opening.head)
        self.assertEqual(recorded, seen.start.headers.raw_items())
        self.assertTrue(capture.complete(Kind.REQUEST_PIECE) and capture.complete(Kind.RESPONSE_PIECE))


def parsed_head(head: bytes) -> Fields:
    found = []
    for line in head.split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b" \t")))
    return found
