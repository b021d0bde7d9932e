"""The parts of a multipart body, wherever its bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.multipart import (
    PartHead,
    boundary_of,
    parse_part_head,
    parts,
)

TYPE = "multipart/form-data; boundary=B"
BODY = (
    b"preamble\r\n--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n"
    b"--B  \r\ncontent-disposition: form-data; name=file; filename=\"a \\\"b\\\".jsonl\"\r\n"
    b"Content-Type: application/jsonl\r\n\r\n{\"a\": 1}\r\n--Bx\r\n\r\n"
    b"--B\r\n\r\nno head\r\n--B--\r\nepilogue"
)  # fmt: skip
PARTS = [
    (PartHead("model"), b"whisper-1"),
    (PartHead("file", 'a "b".jsonl', "application/jsonl"), b'{"a": 1}\r\n--Bx\r\n'),
    (PartHead(), b"no head"),
]


def read(pieces: list[bytes], boundary: bytes = b"B") -> list[tuple[PartHead, bytes]]:
    return [(head, b"".join(body)) for head, body in parts(pieces, boundary)]


class PartTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, len(BODY)), max_size=8))
    def test_any_split(self, cuts: list[int]) -> None:
        """However the bytes arrive, the parts are the same."""
        edges = sorted({0, len(BODY), *cuts})
        self.assertEqual(read([BODY[a:b] for a, b in zip(edges, edges[1:], strict=False)]), PARTS)

    def test_each_byte(self) -> None:
        """Byte by byte, too."""
        self.assertEqual(read([BODY[at : at + 1] for at in range(len(BODY))]), PARTS)

    def test_line_feeds(self) -> None:
        """Lines that end with LF alone are lines, as lenient servers take them."""
        self.assertEqual(
            read([b'--B\nContent-Disposition: form-data; name="a"\n\nb\n--B--\n']), [(PartHead("a"), b"b")]
        )

    @given(st.integers(0, len(BODY)))
    def test_cut(self, length: int) -> None:
        """Of a body that is cut the parts before the cut are there, and the beginning of the last one."""
        found = read([BODY[:length]])
        for (head, body), (whole_head, whole) in zip(found[:-1], PARTS, strict=False):
            self.assertEqual(head, whole_head)
            self.assertTrue(whole.startswith(body))
        self.assertLessEqual(len(found), len(PARTS))

    @given(st.binary(max_size=300), st.binary(max_size=5))
    def test_anything(self, body: bytes, boundary: bytes) -> None:
        """Any bytes have parts or none, and no more bytes than there were."""
        found = read([body], boundary)
        self.assertLessEqual(sum(len(part) for _, part in found), len(body))

    def test_skipped(self) -> None:
        """A part that is not read is passed over."""
        self.assertEqual([head for head, _ in parts([BODY], b"B")], [head for head, _ in PARTS])

    def test_bounded(self) -> None:
        """A part without an end is given in pieces, and a header without an end is cut."""
        piece = b"x" * 10_000
        sizes = [len(each) for _, body in parts([b"--B\r\n\r\n", *[piece] * 50], b"B") for each in body]
        self.assertEqual(sum(sizes), 500_000)
        self.assertLess(max(sizes), 30_000)
        ((_, body),) = read([b"--B\r\nA: ", *[piece] * 50])
        self.assertGreater(len(body), 400_000)


class BoundaryTests(SynchronousTestCase):
    def test_declared(self) -> None:
        """The boundary is the declared one, with or without quotes."""
        for kind in (
            TYPE,
            'multipart/mixed; x=y; BOUNDARY = "B"',
            "multipart/form-data; boundary=B; charset=x",
        ):
            self.assertEqual(boundary_of(kind, BODY), b"B", kind)

    def test_seen(self) -> None:
        """Without a declaration, or with one that is wrong, the first line tells it."""
        for kind in ("", "multipart/form-data", "multipart/form-data; boundary=other"):
            self.assertEqual(boundary_of(kind, b"--B\r\nA: b\r\n\r\n"), b"B", kind)
        self.assertEqual(boundary_of("", b"no boundary"), b"")
        self.assertEqual(read([b"abc"], b""), [])


class HeadTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Names may be quoted, bare, or encoded; a transfer encoding counts as a coding."""
        head = b"Content-Disposition: form-data; name*=utf-8''n%C3%A9; filename=x"
        coding = b"\r\nContent-Transfer-Encoding: base64"
        self.assertEqual(parse_part_head(head + coding), PartHead("né", "x", "", "base64"))

    @given(st.binary(max_size=100))
    def test_anything(self, head: bytes) -> None:
        """Any bytes have a head."""
        self.assertIsInstance(parse_part_head(b"content-disposition:" + head), PartHead)
