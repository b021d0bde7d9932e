"""Every reader takes characters from bytes in one way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import charsets
from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.charsets import ESCAPED, TextDecoder, charset_of, decode_text

NAMES = {
    "utf8": "né",
    "UTF-16": "né",
    "utf-16be": "né",
    "utf-32": "né",
    "us-ascii": "n",
    "ISO_8859-1": "né",
    "latin1": "né",
    "iso-8859-15": "n€",
    "windows-1251": "данные",
    "cp1252": "n€",
    "koi8-r": "данные",
    "gbk": "数据库",
    "GB2312": "数据库",
    "gb18030": "数据库",
    "big5": "資料庫",
    "shift_jis": "データ",
    "x-sjis": "データ",
    "windows-31j": "データ①",
    "euc-jp": "データ",
    "iso-2022-jp": "データ",
    "euc-kr": "데이터",
    "ks_c_5601-1987": "데이터",
}
"""Charsets as they are named in content types, each with a text."""

PYTHON = {"x-sjis": "shift_jis", "windows-31j": "cp932", "UTF-16": "utf-16-le", "utf-32": "utf-32-le"}
"""The codec where Python does not know the name, or adds a byte order mark."""

codecs_used = st.sampled_from(sorted({*charsets._CODECS.values()} - {"utf-16", "utf-32"} | {"utf-32-be"}))


class CharsetTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The names that are sent for a charset lead to a codec that reads it."""
        for name, text in NAMES.items():
            body = f'{{"text": "{text}"}}'.encode(PYTHON.get(name, name))
            for kind in (f"a/b; charset={name}", f'a/b;x=y; Charset = "{name}"'):
                self.assertEqual(decode_text(body, charset_of(kind, body)), f'{{"text": "{text}"}}', kind)

    def test_unknown_name(self) -> None:
        """A charset that is not in the table is UTF-8: some of Python's codecs take quadratic time."""
        for name in ("punycode", "idna", "utf-7", "unicode_escape", "zlib", "hz", "x-user-defined", "\0", ""):
            self.assertEqual(charset_of(f"a/b; charset={name}", b"abc"), "utf-8", name)

    def test_byte_order_mark(self) -> None:
        """A byte order mark is stronger than the declaration, and is no part of the text."""
        for codec in ("utf-8-sig", "utf-16", "utf-32"):
            body = "né".encode(codec)
            for kind in ("", "text/plain; charset=gbk", "text/plain; charset=utf-16"):
                self.assertEqual(decode_text(body, charset_of(kind, body)), "né", f"{codec} as {kind!r}")
        body = b"\xfe\xff" + "né".encode("utf-16-be")
        self.assertEqual(decode_text(body, charset_of("", body)), "né")

    def test_zeros(self) -> None:
        """UTF-16 and UTF-32 without a mark are seen by the zeros beside ASCII, in either order of bytes."""
        for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            body = '{"text": "né"}'.encode(codec)
            for kind in ("application/json", f"a/b; charset={codec[:6]}"):
                self.assertEqual(charset_of(kind, body), codec, kind)

    def test_wrong_width(self) -> None:
        """ASCII that is declared as UTF-16 is read as what it is."""
        self.assertEqual(charset_of("application/json; charset=utf-16", b'{"a": 1}'), "utf-8")

    def test_page(self) -> None:
        """A page without a declared charset names its own."""
        for start in (b'<meta charset="gbk">', b'<?xml version="1.0" encoding="GB2312"?>'):
            self.assertEqual(charset_of("text/html", start), "gb18030")
        self.assertEqual(charset_of("text/html; charset=utf-8", b"<meta charset=gbk>"), "utf-8")
        self.assertEqual(charset_of("text/html", b"<meta charset=utf-16>"), "utf-8")


class DecodingTests(SynchronousTestCase):
    def test_invalid(self) -> None:
        """Invalid bytes stay visible in the text, as the caller wants them, and the rest is unharmed."""
        body = "a\xff".encode("latin-1") + "é".encode()
        self.assertEqual(decode_text(body, "utf-8"), "a\ufffdé")
        self.assertEqual(decode_text(body, "utf-8", errors=ESCAPED), "a\\xffé")

    def test_cut(self) -> None:
        """A body that is cut within a character ends before it; a whole body shows what is wrong."""
        for codec, lost in (("utf-8", 1), ("gb18030", 1), ("utf-16-le", 1), ("utf-16-be", 1)):
            body = "a针".encode(codec)
            self.assertEqual(decode_text(body[:-lost], codec, cut=True), "a", codec)
            self.assertNotEqual(decode_text(body[:-lost], codec), "a", codec)

    def test_bounded(self) -> None:
        """Invalid bytes cost no more than the allowance."""
        self.patch(charsets, "STEP", 4)
        times = iter([0.0, 0.0, 2.0])
        allowance = Allowance(1.0, lambda: next(times), 4)
        self.assertEqual(decode_text(b"abc\xffdefghijk", "utf-8", allowance=allowance), "abc\ufffddefg")

    @given(st.text(max_size=60), codecs_used, st.lists(st.integers(0, 300)), st.binary(max_size=3))
    def test_any_split(self, text: str, codec: str, cuts: list[int], junk: bytes) -> None:
        """A text that comes in any pieces is the text of the whole, valid or not."""
        body = text.encode(codec, "ignore") + junk + text.encode(codec, "ignore")
        decoder = TextDecoder(codec, ESCAPED)
        edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
        pieces = [decoder.feed(body[start:end]) for start, end in zip(edges, edges[1:], strict=False)]
        found = "".join([*pieces, decoder.finish()])
        whole = TextDecoder(codec, ESCAPED)
        self.assertEqual(found, whole.feed(body) + whole.finish())
        self.assertEqual(found, decode_text(body, codec, errors=ESCAPED))
        self.assertEqual(decoder.invalid, whole.invalid)

    @given(st.binary(max_size=80), st.sampled_from(["", *NAMES, "hex"]), st.booleans())
    def test_any_bytes(self, body: bytes, name: str, cut: bool) -> None:
        """Any bytes under any charset give a text, and a valid one comes back as the same bytes."""
        codec = charset_of(f"text/plain; charset={name}", body)
        text = decode_text(body, codec, cut, ESCAPED)
        if codec == "utf-8" and not cut and "\\x" not in text:
            self.assertEqual(text.encode().removeprefix(b"\xef\xbb\xbf"), body.removeprefix(b"\xef\xbb\xbf"))
