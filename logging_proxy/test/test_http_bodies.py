"""Bodies: their ends, their content, and that no malformed byte is passed on."""

from __future__ import annotations

from time import thread_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.bodies import (
    CHUNKED_END,
    LONGEST_CHUNK_LINE,
    LONGEST_TRAILERS,
    NO_BODY,
    BodyReader,
    ChunkedReader,
    CloseReader,
    LengthReader,
    chunk,
    faulty_line,
    request_body,
    response_body,
)
from logging_proxy.http.heads import parse_request_head, parse_response_head


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces; a cut may be anywhere, also where another is."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:], strict=False)]


def read(reader: BodyReader, pieces: list[bytes]) -> tuple[bytes, bytes, bytes]:
    """Content, framed content and rest, all that `reader` gives; after the body's end it is fed no more."""
    content = framed = rest = b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        read, rest = reader.feed(piece)
        content += read.content
        framed += read.framed
    return content, framed, rest


def trailers_of(reader: BodyReader, pieces: list[bytes]) -> bytes:
    """The trailer lines of the body in `pieces`."""
    return next(last.trailers for piece in pieces if (last := reader.feed(piece)[0]).last)


CUTS = st.lists(st.integers(0, 10_000), max_size=12)

_extension = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="q;\\"\t "', b";a=1;b=2"])
_size = st.sampled_from([b"%x", b"%X", b"000%x"])
_chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), _size, _extension), max_size=6)
_trailers = st.sampled_from([b"", b"", b"X-A: 1\r\n", b"a:\r\nB: \xff\t c \r\n"])
_last = st.sampled_from([b"0", b"000", b"0;end=1"])

Chunks = list[tuple[bytes, bytes, bytes]]


def encode(chunks: Chunks, last: bytes, trailers: bytes, extensions: bool = True) -> bytes:
    parts = [
        size % len(data) + (extension if extensions else b"") + b"\r\n" + data + b"\r\n"
        for data, size, extension in chunks
    ]
    return b"".join(parts) + last + b"\r\n" + trailers + b"\r\n"


class ChunkedTests(SynchronousTestCase):
    @given(_chunks, _last, _trailers, CUTS, st.binary(max_size=9))
    @settings(max_examples=300, deadline=None)
    def test_any_split(
        self, chunks: Chunks, last: bytes, trailers: bytes, cuts: list[int], after: bytes
    ) -> None:
        """For any split: content, framed bytes without extensions, trailers, and the bytes after the body."""
        reader = ChunkedReader()
        body = encode(chunks, last, trailers)
        payload, wire, rest = read(reader, split(body + after, cuts))
        self.assertTrue(reader.done and reader.finish())
        self.assertEqual(payload, b"".join(data for data, _, _ in chunks))
        self.assertEqual(wire, encode(chunks, b"0", trailers, extensions=False))
        self.assertEqual(rest, after)
        self.assertEqual(trailers_of(ChunkedReader(), split(body, cuts)), trailers)

    @given(_chunks, _trailers, CUTS, CUTS)
    @settings(max_examples=150, deadline=None)
    def test_wire_is_the_same_body(
        self, chunks: Chunks, trailers: bytes, cuts: list[int], others: list[int]
    ) -> None:
        """The next reader of the wire bytes reads the same body, and passes on the same bytes."""
        payload, wire, _ = read(ChunkedReader(), split(encode(chunks, b"0", trailers), cuts))
        again = ChunkedReader()
        self.assertEqual(read(again, split(wire, others)), (payload, wire, b""))
        self.assertEqual(trailers_of(ChunkedReader(), [wire]), trailers)

    @given(_chunks, _trailers, CUTS, st.integers(1, 10_000))
    @settings(max_examples=150, deadline=None)
    def test_cut_short(self, chunks: Chunks, trailers: bytes, cuts: list[int], missing: int) -> None:
        """A body that has lost its end, be it one byte, has not ended, and no end is passed on."""
        body = encode(chunks, b"0", trailers)
        reader = ChunkedReader()
        payload, wire, rest = read(reader, split(body[: -1 - missing % len(body)], cuts))
        self.assertEqual((reader.done, reader.finish(), rest), (False, False, b""))
        self.assertTrue(b"".join(data for data, _, _ in chunks).startswith(payload))
        self.assertTrue(encode(chunks, b"0", trailers, extensions=False)[:-1].startswith(wire))

    @given(_chunks, st.integers(0, 10_000), st.binary(min_size=1, max_size=3), CUTS)
    @settings(max_examples=300, deadline=None)
    def test_spoilt(self, chunks: Chunks, at: int, junk: bytes, cuts: list[int]) -> None:
        """The refusal and its reason do not depend on the split; no malformed byte is passed on."""
        body = encode(chunks, b"0", b"A: b\r\n")
        at %= len(body)
        body = body[:at] + junk + body[at + len(junk) :]
        whole = self.outcome([body])
        for pieces in (split(body, cuts), [body[n : n + 1] for n in range(len(body))]):
            verdict, wire = self.outcome(pieces)
            self.assertEqual((verdict, wire), whole)
            again = ChunkedReader()
            read(again, [wire])
            self.assertEqual((again.done, again.fault), (verdict[0] == "done", ""))

    def outcome(self, pieces: list[bytes]) -> tuple[tuple[object, ...], bytes]:
        """How the body ended, and the framed bytes."""
        reader = ChunkedReader()
        payload = wire = b""
        for number, piece in enumerate(pieces):
            read, rest = reader.feed(piece)
            payload += read.content
            wire += read.framed
            rest += b"".join(pieces[number + 1 :])
            if reader.fault:
                return ("fault", reader.fault, faulty_line(reader, rest), payload, rest), wire
            if reader.done:
                return ("done", payload, rest), wire
        return ("waiting", payload), wire

    @given(st.sampled_from([b"", b"3\r\nabc\r\n"]), CUTS)
    @settings(max_examples=20, deadline=None)
    def test_malformed(self, before: bytes, cuts: list[int]) -> None:
        """Malformed chunks are refused, for any split, and no byte of them is passed on."""
        for bad in MALFORMED:
            for pieces in (
                [before + bad],
                split(before + bad, cuts),
                [b"%c" % byte for byte in before + bad],
            ):
                verdict, wire = self.outcome(pieces)
                self.assertEqual(verdict[0], "fault", bad)
                self.assertTrue((before + b"5\r\nhello").startswith(wire), (bad, wire))

    def test_overlong_lines(self) -> None:
        """A size line and a trailer section are held up to their limits and not one byte more."""
        for length, fits in ((LONGEST_CHUNK_LINE, True), (LONGEST_CHUNK_LINE + 1, False)):
            line = b"5;" + b"a" * (length - 4) + b"\r\n"
            self.check_limit(line + b"hello\r\n0\r\n\r\n", length, fits)
        for length, fits in ((LONGEST_TRAILERS, True), (LONGEST_TRAILERS + 1, False)):
            fields = b"A: " + b"b" * 500 + b"\r\n"
            many = fields * (length // len(fields) - 1)
            section = many + b"C:" + b"d" * (length - len(many) - 6) + b"\r\n\r\n"
            self.check_limit(b"0\r\n" + section, length, fits)

    def check_limit(self, body: bytes, length: int, fits: bool) -> None:
        for pieces in (
            [body],
            split(body, [7, 100, length - 1, length]),
            split(body, list(range(0, length, 97))),
        ):
            self.assertEqual(self.outcome(pieces)[0][0], "done" if fits else "fault")

    def test_endless_lines(self) -> None:
        """A line without an end is refused at the limit, and not kept."""
        for start, byte, limit in (
            (b"5;a=", b"x", LONGEST_CHUNK_LINE),
            (b"0\r\nA: ", b" ", LONGEST_TRAILERS),
        ):
            reader = ChunkedReader()
            reader.feed(start)
            for _ in range(limit - len(start.split(b"\n")[-1]) - 1):
                reader.feed(byte)
            self.assertEqual(reader.fault, "")
            _, rest = reader.feed(byte)
            self.assertIn("too long", reader.fault)
            self.assertEqual(len(rest), limit + len(start.partition(b"A")[0]) * (limit == LONGEST_TRAILERS))

    def test_linear_time(self) -> None:
        """Many tiny chunks or trailers in tiny pieces cost no more than their number."""
        start = thread_time()
        ChunkedReader().feed(b"1\r\na\r\n" * 10_000)
        read(ChunkedReader(), [b"%c" % byte for byte in b"0\r\n" + b"A: b\r\n" * 2000])
        self.assertLess(thread_time() - start, 5)

    def test_chunk(self) -> None:
        """A reader reads the bytes of `chunk` and `CHUNKED_END`."""
        body = chunk(b"a" * 17) + chunk(b"b") + CHUNKED_END
        self.assertEqual(body[:4], b"11\r\n")
        self.assertEqual(read(ChunkedReader(), [body]), (b"a" * 17 + b"b", body, b""))


class RefusedTests(SynchronousTestCase):
    def test_good_bytes_come_before_the_fault(self) -> None:
        """The bytes before a fault are in the piece, also when they came with it; all others are the rest."""
        for good, payload, bad, line in (
            (b"5\r\nhello\r\n", b"hello", b"zz\r\nX\r\n", b"zz\r\n"),
            (b"5\r\nhello", b"hello", b"!!5\r\n", b""),
            (b"1\r\na\r\n3\r\nb", b"ab", b"", b""),
            (b"2\r\nab\r\n", b"ab", b"0;e=1\r\nA: b\r\nC d\r\n\r\n", b"C d\r\n"),
        ):
            reader = ChunkedReader()
            self.assertEqual(read(reader, [good + bad]), (payload, good, bad))
            self.assertEqual((bool(reader.fault), faulty_line(reader, bad)), (bool(bad), line))

    def test_held(self) -> None:
        """`held` has the bytes of an incomplete line or trailer section when the body ends there."""
        for body, held in (
            (b"5\r\nhello\r\n1", b"1"),
            (b"5\r\nhello\r", b"\r"),
            (b"0;e\r\nA: b\r\nC", b"0;e\r\nA: b\r\nC"),
        ):
            reader = ChunkedReader()
            reader.feed(body)
            self.assertEqual((reader.held, reader.finish()), (held, False))

    def test_lenient(self) -> None:
        """In responses blanks around a size and any extension are read over, and not passed on."""
        for line in (b"2  ", b"2\t", b"2 ;a=b", b"2 ; a = b", b"2;", b"02;a=[x]", b'2;a="'):
            for pieces in (
                [line + b"\r\nok\r\n0 \r\n\r\n"],
                [b"%c" % b for b in line + b"\r\nok\r\n0 \r\n\r\n"],
            ):
                reader = ChunkedReader(lenient=True)
                size = line[:2] if line.startswith(b"0") else b"2"
                self.assertEqual(read(reader, pieces), (b"ok", size + b"\r\nok\r\n0\r\n\r\n", b""))
                self.assertTrue(reader.done)
                strict = ChunkedReader()
                read(strict, pieces[:1])
                self.assertFalse(strict.done)

    def test_lenient_has_limits(self) -> None:
        """Nothing is read over that other readers take for something else."""
        for line in (b" 2\r\n", b"2 2\r\n", b"2;\x00\r\n", b"2\n", b"2;a\n", b"2\r;\r\n", b"0x2\r\n"):
            reader = ChunkedReader(lenient=True)
            reader.feed(line + b"ok\r\n")
            self.assertTrue(reader.fault, line)

    def test_trailers(self) -> None:
        """A blank before the colon of a response's trailer is kept as it came, and not passed on."""
        reader = ChunkedReader(lenient=True)
        piece, _ = reader.feed(b"0\r\nA : b\r\n\r\n")
        self.assertEqual(
            (reader.done, piece.trailers, piece.onward_trailers), (True, b"A : b\r\n", b"A: b\r\n")
        )


MALFORMED = (
    b"\r\n",
    b"g\r\n",
    b"+5\r\nhello\r\n",
    b"-1\r\n",
    b"0x5\r\nhello\r\n",
    b"1_0\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\t\r\nhello\r\n",
    b"5;\r\nhello\r\n",
    b"5; a\r\nhello\r\n",
    b"5;a =b\r\nhello\r\n",
    b"5;bad[=x\r\nhello\r\n",
    b'5;a="\r\nhello\r\n',
    b'5;a="\x00"\r\nhello\r\n',
    b"5;a\rX\r\nhello\r\n",
    b"5;\nhello\r\n",
    b"5\nhello\r\n",
    b"5\rhello\r\n",
    b"5\r\nhello0\r\n",
    b"5\r\nhello\n",
    b"5\r\nhello\rX",
    b"1000000000000000\r\n",
    b"0000000000000005\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF0\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX: y\r\n z\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX: a\x00\r\n\r\n",
    b"0\r\nX: a\n\r\n",
    b"0\r\n\n",
    b"0\r\n\rX",
    b"0\r\nGET / HTTP/1.1\r\n\r\n",
)


class LengthTests(SynchronousTestCase):
    @given(st.binary(min_size=1, max_size=50), st.binary(max_size=9), CUTS)
    @settings(max_examples=100, deadline=None)
    def test_any_split(self, body: bytes, after: bytes, cuts: list[int]) -> None:
        """Exactly the bytes of the length are the body, and they are the wire bytes as well."""
        reader = LengthReader(len(body))
        self.assertEqual(read(reader, split(body + after, cuts)), (body, body, after))
        self.assertTrue(reader.done and reader.finish())

    def test_cut_short(self) -> None:
        """A connection that ends before the length has been read has not ended the body."""
        reader = LengthReader(3)
        reader.feed(b"ab")
        self.assertEqual((reader.done, reader.finish()), (False, False))


class KindTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """A request's body is chunked, has a length above zero, or is none (RFC 9112 §6.3)."""
        for line, kind in (
            (b"Transfer-Encoding: chunked\r\n", ChunkedReader),
            (b"Content-Length: 1\r\n", LengthReader),
            (b"Content-Length: 0\r\n", type(NO_BODY)),
            (b"", type(NO_BODY)),
        ):
            head = parse_request_head(b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n", 9)
            self.assertIs(type(request_body(head)), kind)

    def test_responses(self) -> None:
        """HEAD, 204 and 304 have no body whatever they say; without framing the close ends it."""
        length, chunked = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
        for method, status, line, kind in (
            (b"GET", 200, length, LengthReader),
            (b"GET", 200, chunked, ChunkedReader),
            (b"GET", 200, b"", CloseReader),
            (b"GET", 200, b"Content-Length: 0\r\n", type(NO_BODY)),
            (b"HEAD", 200, length, type(NO_BODY)),
            (b"HEAD", 200, chunked, type(NO_BODY)),
            (b"HEAD", 200, b"", type(NO_BODY)),
            (b"GET", 204, length, type(NO_BODY)),
            (b"GET", 304, length, type(NO_BODY)),
        ):
            head = parse_response_head(b"HTTP/1.1 %d x\r\n%b\r\n" % (status, line), 9)
            self.assertIs(type(response_body(head, method)), kind, (method, status, line))

    def test_until_close(self) -> None:
        """A close-delimited body takes everything, and the close is its proper end."""
        reader = CloseReader()
        self.assertEqual(read(reader, [b"ab"]), (b"ab", b"ab", b""))
        self.assertEqual((reader.done, reader.finish()), (False, True))

    def test_none(self) -> None:
        """Without a body, all bytes come after it."""
        piece, rest = NO_BODY.feed(b"ab")
        self.assertEqual((piece.content, piece.framed, piece.last, rest), (b"", b"", True, b"ab"))
        self.assertTrue(NO_BODY.done and NO_BODY.finish())
