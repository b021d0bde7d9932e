"""Heads: which are accepted, how others are refused, and which values are kept."""

from __future__ import annotations

import re
from time import thread_time

import h11
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http import grammar
from logging_proxy.http.bodies import request_body
from logging_proxy.http.diagnosis import is_faulty_so_far, request_fault, response_fault
from logging_proxy.http.faults import RequestFault, ResponseFault
from logging_proxy.http.heads import (
    HeadCache,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
    parse_tunnel_head,
)


def request(*lines: bytes, first: bytes = b"POST /x HTTP/1.1", host: bool = True) -> bytes:
    fields = ((b"Host: a",) if host else ()) + lines
    return b"\r\n".join((first, *fields, b"", b""))


def parse(raw: bytes) -> RequestHead:
    return parse_request_head(raw, 200)


def parse_response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response_head(b"\r\n".join((first, *lines, b"", b"")), 200)


class RequestHeadTests(SynchronousTestCase):
    def test_fields_as_sent(self) -> None:
        """Lines keep order, case, blanks and duplicates; fields are the same with lower-case names."""
        raw = request(b"X-B:  two \t", b"x-a:", b"X-b:\t1", b"COOKIE: \xff\x80")
        head = parse(raw)
        self.assertEqual(
            b"".join(head.lines), b"Host: a\r\nX-B:  two \t\r\nx-a:\r\nX-b:\t1\r\nCOOKIE: \xff\x80\r\n"
        )
        self.assertEqual(
            head.fields,
            ((b"host", b"a"), (b"x-b", b"two"), (b"x-a", b""), (b"x-b", b"1"), (b"cookie", b"\xff\x80")),
        )
        self.assertEqual(head.values(b"x-b"), [b"two", b"1"])
        self.assertEqual((head.raw, head.method, head.target, head.minor), (raw, b"POST", b"/x", 1))

    def test_targets(self) -> None:
        """A target is taken byte for byte, in each of its four forms."""
        for first, target in (
            (b"GET /a%2Fb/../c?x=%zz HTTP/1.1", b"/a%2Fb/../c?x=%zz"),
            (b"GET //double HTTP/1.1", b"//double"),
            (b"GET http://b:80/p?q HTTP/1.1", b"http://b:80/p?q"),
            (b"GET HTTP://[::1]?q HTTP/1.1", b"HTTP://[::1]?q"),
            (b"OPTIONS * HTTP/1.1", b"*"),
            (b"CONNECT a:443 HTTP/1.1", b"a:443"),
            (b"get /lower HTTP/1.1", b"/lower"),
            (b"M-SEARCH /{|}\\^ HTTP/1.1", b"/{|}\\^"),
        ):
            self.assertEqual(parse(request(first=first)).target, target)

    def test_malformed(self) -> None:
        """Input that is no HTTP/1.1 request is refused with 400, another version with 505."""
        for first, status in (
            (b"GET  / HTTP/1.1", 400),
            (b"GET / HTTP/1.1 ", 400),
            (b" GET / HTTP/1.1", 400),
            (b"GET\t/ HTTP/1.1", 400),
            (b"GET /a b HTTP/1.1", 400),
            (b"GET / HTTP/1", 400),
            (b"GET / http/1.1", 400),
            (b"GET / HTTP/ 1.1", 400),
            (b"GET / HTTP/1.10", 400),
            (b"GET /caf\xc3\xa9 HTTP/1.1", 400),
            (b"GET /\x00 HTTP/1.1", 400),
            (b"G[T / HTTP/1.1", 400),
            (b"GET", 400),
            (b"", 400),
            (b"GET / HTTP/2.0", 505),
            (b"PRI * HTTP/2.0", 505),
            (b"GET / HTTP/9.9", 505),
            (b"GET * HTTP/1.1", 400),
            (b"GET x HTTP/1.1", 400),
            (b"GET http:/x HTTP/1.1", 400),
            (b"GET http:///x HTTP/1.1", 400),
            (b"GET /x#y HTTP/1.1", 400),
            (b"GET http://u@b/x HTTP/1.1", 400),
            (b"CONNECT /x HTTP/1.1", 400),
            (b"CONNECT u@b:1 HTTP/1.1", 400),
        ):
            self.refused(request(first=first), status)

    def test_malformed_fields(self) -> None:
        """Nothing but CRLF ends a line, nothing is folded, no control character but the tab gets through."""
        for line in (
            b"X : a",
            b" X: a",
            b"X: a\r\n b",
            b"X: a\r\n\tb",
            b"X",
            b": a",
            b"X\xe9: a",
            b"X(: a",
            b"X: a\rb",
            b"X: a\nb",
            b"X: a\nY: b",
            *(b"X: a%cb" % code for code in range(32) if code != 9),
            b"X: a\x7f",
        ):
            self.refused(request(line), 400)

    def test_host(self) -> None:
        """Exactly one Host that names a host; HTTP/1.0 alone may do without."""
        for value in (
            b"",
            b"a/b",
            b"u@a",
            b"a, b",
            b"a b",
            b"a:b",
            b"a:123456",
            b"a:65536",
            b"[::1",
            b"a?b",
            b"%zz",
            b"a#",
        ):
            self.refused(request(b"Host: " + value, host=False), 400)
        for value in (b"a", b"A.b-c_d:80", b"[::1]:5601", b"127.0.0.1", b"a:", b"[v1.x]", b"%41"):
            self.assertEqual(parse(request(b"Host: " + value, host=False)).host, value)
        self.refused(request(b"Host: a"), 400)
        self.refused(request(b"host: b"), 400)
        self.refused(request(host=False), 400)
        self.refused(request(host=False, first=b"GET http://a/ HTTP/1.1"), 400)
        self.assertEqual(parse(request(host=False, first=b"GET / HTTP/1.0")).host, b"")

    def test_framing(self) -> None:
        """A body has a length, or is chunked, or is not there."""
        for lines, framing in (
            ((), (None, False)),
            ((b"Content-Length: 0",), (0, False)),
            ((b"content-length:\t17 ",), (17, False)),
            ((b"Content-Length: 999999999999999999",), (10**18 - 1, False)),
            ((b"Transfer-Encoding: chunked",), (None, True)),
            ((b"transfer-encoding:CHUNKED",), (None, True)),
        ):
            head = parse(request(*lines))
            self.assertEqual((head.content_length, head.chunked), framing)

    def test_bad_framing(self) -> None:
        """Ambiguous framing is refused; an unknown coding is 501."""
        for lines, status in (
            ((b"Content-Length: 1", b"Content-Length: 1"), 400),
            ((b"Content-Length: 1, 1",), 400),
            ((b"Content-Length: +1",), 400),
            ((b"Content-Length: -0",), 400),
            ((b"Content-Length: 01",), 400),
            ((b"Content-Length: 0x1",), 400),
            ((b"Content-Length: 1_0",), 400),
            ((b"Content-Length: \xb2",), 400),
            ((b"Content-Length:",), 400),
            ((b"Content-Length: 1000000000000000000",), 400),
            ((b"Content-Length: 0", b"Transfer-Encoding: chunked"), 400),
            ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
            ((b"Transfer-Encoding:",), 400),
            ((b"Transfer-Encoding: chunked, chunked",), 400),
            ((b"Transfer-Encoding: chunked, identity",), 400),
            ((b"Transfer-Encoding: xchunked",), 400),
            ((b"Transfer-Encoding: chunked;a=b",), 400),
            ((b"Transfer-Encoding: gzip",), 501),
            ((b"Transfer-Encoding: identity",), 501),
        ):
            self.refused(request(*lines), status)
        self.refused(request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400)

    def test_persistence(self) -> None:
        """HTTP/1.1 stays unless it says close, HTTP/1.0 closes unless it says keep-alive."""
        for first, lines, stays in (
            (b"GET / HTTP/1.1", (), True),
            (b"GET / HTTP/1.2", (), True),
            (b"GET / HTTP/1.1", (b"Connection: x,\tClose ,y",), False),
            (b"GET / HTTP/1.1", (b"Connection: keep-alive", b"Connection: close"), False),
            (b"GET / HTTP/1.1", (b"Connection: closed",), True),
            (b"GET / HTTP/1.0", (), False),
            (b"GET / HTTP/1.0", (b"connection: Keep-Alive",), True),
            (b"GET / HTTP/1.0", (b"Connection: keep-alive, close",), False),
        ):
            self.assertEqual(parse(request(*lines, first=first)).keep_alive, stays)

    def test_expect_and_upgrade(self) -> None:
        """Both are read where they count: in HTTP/1.1, Upgrade only if Connection names it."""
        lines = (b"Expect: 100-Continue", b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c")
        head = parse(request(*lines))
        self.assertEqual((head.expect_continue, head.upgrade), (True, b"websocket, h2c"))
        old = parse(request(*lines, first=b"POST / HTTP/1.0"))
        self.assertEqual((old.expect_continue, old.upgrade), (False, b""))
        self.assertEqual(parse(request(b"Upgrade: websocket")).upgrade, b"")

    def test_too_many_fields(self) -> None:
        """More fields than allowed are refused with 431, exactly as many are not."""
        self.assertEqual(len(parse(request(*[b"A: b"] * 199)).fields), 200)
        self.refused(request(*[b"A: b"] * 200), 431)

    def test_linear_time(self) -> None:
        """A long run of anything inside a head costs no more than its length."""
        for filler in (b" ", b"\t", b"a", b" a", b":", b"\x00"):
            run = filler * (60000 // len(filler))
            for raw in (
                request(b"X: a" + run + b"b"),
                request(b"X: " + run),
                request(run),
                request(first=run),
            ):
                start = thread_time()
                try:
                    parse(raw)
                except RequestFault:
                    pass
                self.assertLess(thread_time() - start, 2, raw[:40])

    def test_no_group_is_possessive(self) -> None:
        """Python up to 3.11.4 matches too much with a group that is repeated so (gh-106052)."""
        patterns = [each.pattern for each in vars(grammar).values() if isinstance(each, re.Pattern)]
        patterns += [
            each.pattern for chunks in (grammar.STRICT_CHUNKS, grammar.LENIENT_CHUNKS) for each in chunks
        ]
        for pattern in patterns:
            without_classes = re.sub(rb"\[(?:\\.|[^\]\\])*\]", b"[]", pattern)
            self.assertNotRegex(without_classes, rb"\)[*+?}]\+|\(\?>")

    def refused(self, raw: bytes, status: int) -> None:
        fault = self.assertRaises(RequestFault, parse, raw)
        self.assertEqual(fault.status, status, raw)


class PrefixTests(SynchronousTestCase):
    def test_no_prefix_of_a_head_is_refused(self) -> None:
        """As long as a head can become valid it is waited for, wherever it is split."""
        raw = request(b"X: y", first=b"GET http://a/b HTTP/1.1")
        for known in range(len(raw)):
            for now in range(max(known, 1), len(raw)):
                self.assertFalse(is_faulty_so_far(raw[:now], known))

    def test_first_line_is_refused_when_it_ends(self) -> None:
        """A line that cannot begin a request is not waited for, and a bare LF ends one."""
        for begun, status in (
            (b"\x16\x03\x01", 400),
            (b"\xffA", 400),
            (b" GET", 400),
            (b"GET /\r\n", 400),
            (b"GET / HTTP/1.1\n", 400),
            (b"\nGET", 400),
            (b"PRI * HTTP/2.0\r\n", 505),
        ):
            self.assertTrue(is_faulty_so_far(begun, 0), begun)
            self.assertEqual(request_fault(begun, 200, 1000).status, status, begun)

    def test_too_long(self) -> None:
        """At the limit it is 414 while the line has not ended, and 431 after it."""
        line = b"GET / HTTP/1.1\r\n"
        for begun, status in ((b"GET /" + b"a" * 95, 414), (line + b"A: " + b"a" * 81, 431)):
            self.assertFalse(is_faulty_so_far(begun, 0))
            self.assertEqual(request_fault(begun, 200, 100).status, status)


class OffendingLineTests(SynchronousTestCase):
    def test_first_one_decides(self) -> None:
        """The line that is at fault is named, the first if there are more."""
        start = b"GET / HTTP/1.1\r\n"
        for raw, status, line in (
            (b"GET  / HTTP/1.1\r\nX y\r\n\r\n", 400, b"GET  / HTTP/1.1"),
            (start + b"A: b\r\nX y: z\r\nQ\r\n\r\n", 400, b"X y: z\r\n"),
            (start + b"A: b\nHost: c\r\n\r\n", 400, b"A: b\n"),
            (start + b"Host: a\r\nB: c\rd\r\n\r\n", 400, b"B: c\rd\r\n"),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400, b"GET / HTTP/1.1\n"),
            (b"GET / HTTP/3.0\r\nX y\r\n", 505, b"GET / HTTP/3.0"),
            (start + b"Host: a\r\n b\r\n\r\n", 400, b" b\r\n"),
        ):
            fault = request_fault(raw, 200, 1000)
            self.assertEqual((fault.status, fault.line), (status, line))
        start = b"HTTP/1.1 200 OK\r\n"
        for raw, line in (
            (b"SSH-2.0-x\r\n", b"SSH-2.0-x\r\n"),
            (b"HTTP/1.1 99 x\r\n\r\n", b"HTTP/1.1 99 x\r\n"),
            (start + b"A : b\r\nX y: z\r\n\r\n", b"X y: z\r\n"),
            (start + b"A: b\nC: d\n\n", b"A: b\n"),
            (start + b"Content-Length : 2\r\n\r\n", b"Content-Length : 2\r\n"),
            (start + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", b"Content-Length: 3\r\n"),
            (start + b"Transfer-Encoding: x\r\n\r\n", b"Transfer-Encoding: x\r\n"),
        ):
            self.assertEqual(response_fault(raw, 200, 1000).line, line)

    def test_line_in_the_error(self) -> None:
        """The text shows the line: printable, shortened, and without possible secrets."""
        for line, text in (
            (b"X y: z\r\n", "X y: z"),
            (b"X\x00\x1b[2J\xe9: z\r\n", "X\\x00\\x1b[2J\\xe9: z"),
            (b"Authorization : Bearer abcdefgh\r\n", "Authorization : REDACTED"),
            (b"Authorization Bearer abcdefgh\r\n", "Auth REDACTED"),
            (b"X my-token: abcdefgh\r\n", "X my-token: REDACTED"),
            (b" abcdefgh\r\n", "(a continuation) REDACTED"),
            (b"GET /a b?key=abcdefgh HTTP/1.1\r\n", "GET /a b?key=REDACTED"),
            (b"GET /v1/sessions/ x\r\n", "GET /v1/sessions/ x"),
            (b"a" * 200, "a" * 160 + "…"),
        ):
            self.assertEqual(str(ResponseFault("bad", line)), f"bad: {text}")
        self.assertEqual(str(ResponseFault("bad")), "bad")


class ResponseHeadTests(SynchronousTestCase):
    def test_status_line(self) -> None:
        """Status and reason are taken as sent; the reason may be missing, with its space or without."""
        for first, minor, status, reason in (
            (b"HTTP/1.1 200 OK", 1, 200, b"OK"),
            (b"HTTP/1.0 404 Not  Found ", 0, 404, b"Not  Found "),
            (b"HTTP/1.1 204 ", 1, 204, b""),
            (b"HTTP/1.1 599", 1, 599, b""),
            (b"HTTP/1.1 200 \xe9", 1, 200, b"\xe9"),
            (b"HTTP/1.1 999 x", 1, 999, b"x"),
        ):
            head = parse_response(first=first)
            self.assertEqual((head.minor, head.status, head.reason), (minor, status, reason))

    def test_malformed(self) -> None:
        """Input that is no HTTP/1.x response raises `ResponseFault`."""
        for first in (
            b"HTTP/2 200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 099 x",
            b"ICY 200 OK",
            b"HTTP/1.1 200 a\x00b",
        ):
            with self.assertRaises(ResponseFault):
                parse_response(first=first)
        for line in (b"X y: a", b" X: a", b": a", b"X: a\r\n b", b"X: a\x00", b"X: a\rb", b"X: a\nY: b"):
            with self.assertRaises(ResponseFault):
                parse_response(line)
        with self.assertRaises(ResponseFault):
            parse_response(*[b"A: b"] * 201)

    def test_framing(self) -> None:
        """Of a response's framing nothing is guessed."""
        self.assertEqual(parse_response(b"Content-Length: 5").content_length, 5)
        self.assertTrue(parse_response(b"Transfer-Encoding: Chunked").chunked)
        for lines in (
            (b"Content-Length: 1", b"Content-Length: 2"),
            (b"Content-Length: x",),
            (b"Content-Length: 1, 2",),
            (b"Content-Length: 1,",),
            (b"Content-Length:",),
            (b"Content-Length: +1",),
            (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding : chunked",),
            (b"Content-Length\t: 1",),
            (b"Transfer-Encoding: gzip, chunked",),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        ):
            with self.assertRaises(ResponseFault):
                parse_response(*lines)
        with self.assertRaises(ResponseFault):
            parse_response(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK")

    def test_blanks_before_colons(self) -> None:
        """They are not part of the name, and not in the lines that go on; `raw` has them (RFC 9112 §5.1)."""
        head = parse_response(b"X : a", b"Y \t:b", b"Z: c")
        self.assertEqual(head.lines, (b"X: a\r\n", b"Y:b\r\n", b"Z: c\r\n"))
        self.assertEqual([name for name, _ in head.fields], [b"x", b"y", b"z"])
        self.assertIn(b"X : a\r\nY \t:b", head.raw)

    def test_equal_lengths(self) -> None:
        """Lengths that agree are one length, said once (RFC 9110 §8.6)."""
        for lines in (
            (b"Content-length: 5", b"A: b", b"Content-Length: 5"),
            (b"Content-length: 5, 5", b"A: b"),
            (b"Content-length: 005", b"A: b"),
            (b"Content-length: 5", b"A: b", b"Content-Length: 5 , 05"),
        ):
            head = parse_response(*lines)
            self.assertEqual(head.content_length, 5)
            self.assertEqual(head.lines, (b"Content-length: 5\r\n", b"A: b\r\n"))
            self.assertEqual(head.fields, ((b"content-length", b"5"), (b"a", b"b")))
        self.assertEqual(parse_response(b"Content-Length: 00").content_length, 0)

    def test_tunnel(self) -> None:
        """In an answer to CONNECT framing fields mean nothing (RFC 9110 §9.3.6)."""
        raw = b"HTTP/1.0 200 OK\r\nContent-Length:\r\nTransfer-Encoding: x\r\n\r\n"
        head = parse_tunnel_head(raw, 200)
        self.assertEqual((head.status, head.content_length, head.chunked), (200, None, False))


class CacheTests(SynchronousTestCase):
    def test_same_bytes_same_head(self) -> None:
        """A head is parsed once; other bytes are another head."""
        cache = HeadCache(parse_request_head, 200)
        raw = request()
        self.assertIsNone(cache.get(raw))
        head = cache.parse(raw)
        self.assertIs(cache.get(bytes(bytearray(raw))), head)
        self.assertIsNone(cache.get(request(b"X: y")))

    def test_bounded(self) -> None:
        """No more heads than the limit are held, no long ones, and none that are refused."""
        cache = HeadCache(parse_request_head, 200, limit=3)
        raws = [request(b"X: %d" % n) for n in range(4)]
        for raw in raws:
            cache.parse(raw)
        self.assertEqual([cache.get(raw) is not None for raw in raws], [False, False, False, True])
        long = request(b"X: " + b"x" * HeadCache.LONGEST)
        cache.parse(long)
        self.assertIsNone(cache.get(long))
        bad = request(b"X : y")
        self.assertRaises(RequestFault, cache.parse, bad)
        self.assertIsNone(cache.get(bad))


def _text(alphabet: bytes, smallest: int, most: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(list(alphabet)), min_size=smallest, max_size=most).map(bytes)


TOKENS = b"abcXYZ019!#$%&'*+-.^_`|~"
_name = _text(TOKENS, 1, 6)
_value = _text(TOKENS + b' \t",;:=()[]{}/@\xe9\xff', 0, 12)
_framing = st.sampled_from(
    [
        b"Content-Length: 5\r\n",
        b"content-length:5 \r\n",
        b"Content-Length: 05\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding:\tChunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"Host: b\r\n",
        b" folded\r\n",
        b"X : y\r\n",
        b"X: a\nY: b\r\n",
    ]
)
_field = st.tuples(_name, _value).map(lambda pair: pair[0] + b": " + pair[1] + b"\r\n")
_body = st.sampled_from(
    [
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"",
    ]
)
_request = st.builds(
    lambda method, target, version, fields, body: (
        method + b" " + target + b" " + version + b"\r\nHost: a\r\n" + b"".join(fields) + b"\r\n" + body
    ),
    st.one_of(st.sampled_from([b"GET", b"POST", b"OPTIONS"]), _name),
    st.one_of(
        _text(TOKENS + b"/?:@", 0, 8).map(lambda rest: b"/" + rest), st.sampled_from([b"*", b"http://a/b"])
    ),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0"]),
    st.lists(st.one_of(_field, _field, _framing), max_size=5),
    _body,
)
_spoilt = st.builds(
    lambda raw, at, junk: raw[: at % len(raw)] + junk + raw[at % len(raw) :],
    _request,
    st.integers(0, 200),
    st.sampled_from([b"\r", b"\n", b"\x00", b" ", b":", b"\r\n", b"\r\n ", b"\x80"]),
)


class OracleTests(SynchronousTestCase):
    @given(st.one_of(_request, _spoilt))
    @settings(max_examples=400, deadline=None)
    def test_h11_reads_the_same(self, raw: bytes) -> None:
        """Whatever we accept, h11 accepts too, and reads the same method, target, fields and body."""
        mine = read_with_ours(raw)
        assume(mine is not None)
        self.assertEqual(mine, read_with_h11(raw))


Reading = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]


def read_with_ours(raw: bytes) -> Reading | None:
    end = raw.find(b"\r\n\r\n") + 4
    if end < 4 or raw.startswith(b"\r\n"):
        return None
    try:
        head = parse(raw[:end])
        body = request_body(head)
        piece, _ = body.feed(raw[end:])
    except RequestFault:
        return None
    if not body.done:
        return None
    # h11 gives this one value in lower case.
    fields = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in head.fields]
    return head.method, head.target, fields, piece.content


def read_with_h11(raw: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    payload = b""
    while isinstance(event := connection.next_event(), h11.Data):
        payload += event.data
    assert isinstance(event, h11.EndOfMessage), event
    return request.method, request.target, [(name, value) for name, value in request.headers], payload
