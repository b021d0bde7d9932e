"""
Mutated requests: what reaches the upstream is what another reader of the same bytes has read, or nothing.

The other reader is h11, which is more lenient than we are: where it sees a
request, ours may see none, but never another.  `LOGGING_PROXY_EXAMPLES` in the
environment sets the number of examples, which are then others each time.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.wire_stage import EchoStage, Fields, Request, by_h11, connection_options, strict

ASKED = os.environ.get("LOGGING_PROXY_EXAMPLES")
EXAMPLES = int(ASKED or 300)

_HOP_BY_HOP = (
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer upgrade"
).split()

_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_POISON = b"GET /api/poison HTTP/1.1\r\nHost: h\r\n\r\n"

VALID = [
    b"GET /api/a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /api/a?b=c&d HTTP/1.1\r\nHost: h:5601\r\nCookie: a=1\r\nA: \xe9\r\ncookie:\r\nTE: trailers\r\n\r\n",
    b"POST /api/a HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello\r\nwell",
    b"POST /api/a HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n" + _CHUNKED + b"5\r\nhello\r\n6\r\n, well\r\n0\r\n\r\n",
    b"PUT /api/a HTTP/1.1\r\nHost: h\r\n"
    + _CHUNKED
    + b'3;a=b;c="d"\r\nabc\r\n1\r\n\n\r\n0\r\nX-T: t\r\n\r\n',
    b"HEAD /api/a%2Fb HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    b"GET http://h/api/a?b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"OPTIONS /api/ HTTP/1.1\r\nHost: [::1]\r\nMax-Forwards: 12\r\n\r\n",
    b"GET /api/a HTTP/1.0\r\n\r\n",
    b"GET /api/a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    b"POST /api/a HTTP/1.1\r\nHost: h\r\nConnection: close, X-N\r\nX-N: 1\r\nContent-Length: 2\r\n\r\n\r\n",
    b"DELETE /api/a HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 9\r\n\r\n012345678",
    b"POST /api/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"POST /api/a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(_POISON) + _POISON,
    b"POST /api/a HTTP/1.1\r\nHost: h\r\n" + _CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(_POISON), _POISON),
]

SCRAPS = [
    *(bytes([code]) for code in b"\r\n\0\t :,;\x0b\x7f\x80#%0+-"),
    *(b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\t\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: i\r\n"),
    *(b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 1", b" chunked", b"0\r\n\r\n", b"\r\n0\r\n"),
    *(b"Transfer-Encoding:\tCHUNKED\r\n", b"Transfer-Encoding: x, chunked\r\n", b"Connection: Host\r\n"),
    *(_POISON, b" HTTP/1.1", b" HTTP/1.0\r\n", b"http://i", b"/../"),
]

_AT = st.integers(0, 400)
Mutation = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Edit:
    """Replaces `size` bytes at `at` (counted round the end) by `new`, or by themselves, `copies` times."""

    at: int
    size: int
    new: bytes | None = None
    copies: int = 1

    def __call__(self, data: bytes) -> bytes:
        at = self.at % (len(data) + 1)
        old = data[at : at + self.size]
        return data[:at] + (old if self.new is None else self.new) * self.copies + data[at + self.size :]


@dataclass(frozen=True)
class Flip:
    at: int
    bits: int

    def __call__(self, data: bytes) -> bytes:
        at = self.at % max(1, len(data))
        return data[:at] + bytes(byte ^ self.bits for byte in data[at : at + 1]) + data[at + 1 :]


@dataclass(frozen=True)
class Splice:
    """Goes on, from `at`, as `other` does from `there`."""

    at: int
    other: bytes
    there: int

    def __call__(self, data: bytes) -> bytes:
        return data[: self.at % (len(data) + 1)] + self.other[self.there % (len(self.other) + 1) :]


@dataclass(frozen=True)
class CopyLine:
    """Sets line number `line` once more, before line `before`."""

    line: int
    before: int

    def __call__(self, data: bytes) -> bytes:
        lines = data.split(b"\r\n")
        lines.insert(self.before % (len(lines) + 1), lines[self.line % len(lines)])
        return b"\r\n".join(lines)


_MUTATIONS: st.SearchStrategy[Mutation] = st.one_of(
    st.builds(Edit, _AT, st.just(0), st.sampled_from(SCRAPS)),
    st.builds(Edit, _AT, st.integers(1, 4), st.sampled_from(SCRAPS)),
    st.builds(Edit, _AT, st.integers(1, 12), st.just(b"")),
    st.builds(Edit, _AT, st.integers(1, 30), st.none(), st.just(2)),
    st.builds(Flip, _AT, st.integers(1, 255)),
    st.builds(Splice, _AT, st.sampled_from(VALID), _AT),
    st.builds(CopyLine, st.integers(0, 9), st.integers(0, 9)),
)


def onward(request: Request) -> Request | None:
    """What `request` is for the upstream of `/api/` at `/base/`; None where it is for nobody."""
    target = request.target
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        target = slash + path
    path, mark, query = target.partition(b"?")
    pieces = path.split(b"/", 2)
    if len(pieces) < 3 or unquote_to_bytes(pieces[1]) != b"api":
        return None
    return Request(
        request.method,
        b"/base/" + pieces[2] + mark + query,
        end_to_end(request),
        request.body,
        [
            each
            for each in request.trailers
            if each[0].lower() not in _NO_TRAILERS | connection_options(request)
        ],
    )


_IN_TRAILERS = re.compile("Content-Length|Transfer-Encoding")
"""What h11 finds wrong with framing in trailers, once a request has begun; we leave it out there."""

_NO_TRAILERS = {
    b"content-length",
    b"host",
    b"transfer-encoding",
    b"cookie",
    b"expect",
    b"max-forwards",
} | set(_HOP_BY_HOP)
"""Those of the fields used here that do not go up in trailers."""


def end_to_end(request: Request) -> Fields:
    """The fields that both sides must have alike: names without case, framing without its blanks and case."""
    kept = []
    dropped = {*_HOP_BY_HOP, *connection_options(request)} - {b"content-length", b"transfer-encoding"}
    for name, value in request.fields:
        key = name.lower()
        if key == b"transfer-encoding":
            value = value.lower()
        elif key == b"max-forwards" and request.method in (b"OPTIONS", b"TRACE") and value.isdigit():
            value = b""  # counted down, which has tests of its own
        if key not in dropped and key != b"host":
            kept.append((name, value))
    return kept


def seen(request: Request) -> Request:
    """A request at the upstream, made comparable with `onward`."""
    return Request(request.method, request.target, end_to_end(request), request.body, request.trailers)


class DifferentialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counts: Counter[str] = Counter()

    def run_one(self, data: bytes, sizes: list[int]) -> EchoStage:
        stage = EchoStage("http://up.example/base/", "/api/")
        client = stage.client()
        at = turn = 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            stage.exchange(client, data[at : at + size])
            at, turn = at + size, turn + 1
        client.rst()
        stage.settle()
        return stage

    def check(self, data: bytes, sizes: list[int]) -> None:
        stage = self.run_one(data, sizes)
        self.assertEqual(stage.leaks(), [], data)
        other = by_h11(data)
        expected = [found for each in other.whole if (found := onward(each))]
        if other.open and (found := onward(other.open)):
            expected.append(found)
        for request in stage.reached:
            self.assertIn(b"up.example", request.values(b"host"))
            compared = seen(request)
            if other.open and _IN_TRAILERS.search(other.fault) and len(expected) == 1:
                compared.trailers = []
            while expected and expected[0] != compared:
                expected.pop(0)
            self.assertTrue(expected, f"{request}\nis not in {other}\nof {data!r}")
            expected.pop(0)
        self.check_beginning(stage, expected, data)
        self.counts["reached" if stage.reached else "stopped"] += 1

    def check_beginning(self, stage: EchoStage, expected: list[Request], data: bytes) -> None:
        """Half a request at the upstream, which it never takes for one: its head is one that h11 has read."""
        for wire_seen in stage.seen.values():
            _, rest = strict(bytes(wire_seen))
            if b"\r\n\r\n" in rest:
                line = rest.partition(b"\r\n")[0].split(b" ")
                self.assertIn(line[:2], [[each.method, each.target] for each in expected], data)
                self.counts["cut"] += 1

    def test_valid(self) -> None:
        """Unchanged, every request reaches the upstream, whole, alone, and as h11 has read it."""
        for data in VALID:
            for size in (1, 7, 1000):
                stage = self.run_one(data, [size])
                self.assertEqual(stage.leaks(), [])
                self.assertEqual(
                    [seen(each) for each in stage.reached],
                    [onward(each) for each in by_h11(data).whole],
                )
                self.assertEqual(len(stage.reached), 1)

    def test_mutated(self) -> None:
        """However a request is changed and cut up, the upstream gets what h11 reads, or nothing."""

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=not ASKED, database=None)
        @given(
            st.sampled_from(VALID),
            st.lists(_MUTATIONS, min_size=1, max_size=4),
            st.sampled_from([b"", *VALID]),
            st.lists(st.integers(1, 60), min_size=1, max_size=6),
        )
        def mutated(data: bytes, mutations: list[Mutation], behind: bytes, sizes: list[int]) -> None:
            for mutation in mutations:
                data = mutation(data)
            self.check(data + behind, sizes)

        mutated()
        # Neither side of the comparison may be empty.
        self.assertGreater(self.counts["reached"], EXAMPLES // 10)
        self.assertGreater(self.counts["stopped"], EXAMPLES // 10)
