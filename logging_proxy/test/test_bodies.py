"""A body is read in one way: its coding, its charset, its form, in any pieces."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.media_types import Form

JSON = "application/json"
TEXT = json.dumps({"model": "m", "text": "naïve 数据库"}, ensure_ascii=False)


def read(body: Body) -> tuple[str, str]:
    return "".join(body.text()), body.trouble


class ReadingTests(SynchronousTestCase):
    @given(
        st.sampled_from(["", "gzip", "deflate", "x-own"]),
        st.sampled_from(["utf-8", "gb18030", "utf-16"]),
        st.lists(st.integers(0, 200), max_size=6),
    )
    def test_any_split(self, coding: str, charset: str, cuts: list[int]) -> None:
        """However the bytes arrive, coding and charset are undone."""
        data = TEXT.encode(charset)
        data = (
            gzip.compress(data) if coding == "gzip" else zlib.compress(data) if coding == "deflate" else data
        )
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        body = Body(pieces, f"{JSON}; charset={charset}", coding)
        self.assertIs(body.form, Form.JSON)
        self.assertEqual(read(body), (TEXT, "a coding that is not known" if coding == "x-own" else ""))

    def test_untrue_coding(self) -> None:
        """What is not what its coding says is read as it is, to its end, with a word why."""
        pieces = [b'{"model": "m",', b' "text": "', b"x" * 300_000, b'"}']
        for coding in ("gzip", "br", "zstd", "deflate", "aws-chunked"):
            text, trouble = read(Body(pieces, JSON, coding))
            self.assertEqual(json.loads(text), {"model": "m", "text": "x" * 300_000}, coding)
            self.assertEqual(trouble, "the body is not what its coding says")

    def test_undeclared_coding(self) -> None:
        """A body that begins with the mark of a coding is decoded without being asked."""
        self.assertEqual(read(Body([gzip.compress(TEXT.encode())], JSON)), (TEXT, ""))

    def test_cut(self) -> None:
        """A coded body that is cut is read as far as it goes; half a character is no fault of its own."""
        text, trouble = read(Body([gzip.compress(b"abc" * 1000)[:-4]], "text/plain", "gzip"))
        self.assertEqual((text[:6], trouble), ("abcabc", "the body ends in the middle"))

    def test_invalid(self) -> None:
        """Bytes that are invalid in the charset are shown, and said."""
        self.assertEqual(
            read(Body([b"mostly text, with \xff in it"], "")),
            ("mostly text, with \\xff in it", "some bytes are invalid in their charset"),
        )

    def test_empty(self) -> None:
        """No bytes are an empty body."""
        for pieces in ([], [b""]):
            self.assertEqual(read(Body(pieces, JSON, "gzip")), ("", ""))

    @given(st.binary(max_size=300), st.sampled_from(["", "gzip", "br, gzip", "zstd", "aws-chunked", ","]))
    def test_anything(self, data: bytes, coding: str) -> None:
        """Any bytes under any coding are read without an error."""
        self.assertIsInstance(read(Body([data], JSON, coding))[0], str)

    def test_parts(self) -> None:
        """The parts of a multipart body are bodies."""
        part = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n'
        coded = gzip.compress(b'{"a": 1}')
        data = (
            part % (b"one", b"", b"text") + part % (b"two", b"Content-Encoding: gzip\r\n", coded) + b"--B--"
        )
        found = [
            (head.name, part.form, read(part)[0])
            for head, part in Body([data], "multipart/form-data; boundary=B").parts()
        ]
        self.assertEqual(found, [("one", Form.TEXT, "text"), ("two", Form.JSON, '{"a": 1}')])

    def test_bounded(self) -> None:
        """A long body is not held."""
        tracemalloc.start()
        try:
            body = Body((b"word " * 10_000 for _ in range(200)), "text/plain")
            self.assertEqual(sum(map(len, body.text())), 10_000_000)
            self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)
        finally:
            tracemalloc.stop()
