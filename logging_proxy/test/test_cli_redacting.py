"""Bodies without their secrets, however long they are, and otherwise as they were."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli import redacting
from logging_proxy.cli.body_json import LazyBody, json_pieces, with_members
from logging_proxy.cli.jsontext import json_lines
from logging_proxy.cli.paint import Paint
from logging_proxy.cli.redacting import redacted_bytes, redacted_text
from logging_proxy.cli.secrets import Redactor
from logging_proxy.understanding import json_tokens
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.media_types import Form

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
PART = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'.format
UPLOAD = (
    PART("model", "", "whisper-1").encode()
    + PART("api_key", "", "canary").encode()
    + PART("file", '; filename="a"\r\nContent-Type: audio/mpeg', "").encode()[:-2]
    + b"\xff\xfb\0\1\r\n"
    + PART("more", "", f"use {KEY}").encode()
    + b"--B--\r\n"
)
UPLOAD_TYPE = "multipart/form-data; boundary=B"


class LongCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Everything is long."""
        self.patch(redacting, "WHOLE", 50)
        self.patch(redacting, "WINDOW", 300)
        self.patch(redacting, "AROUND", 60)
        self.patch(json_tokens, "LONG", 100)
        self.redactor = Redactor()

    def text(self, text: str, form: Form, step: int = 7) -> str:
        pieces = (text[at : at + step] for at in range(0, len(text), step))
        return "".join(redacted_text(pieces, form, self.redactor))


class TextTests(LongCase):
    @given(st.integers(0, 1500), st.integers(1, 200))
    def test_windows(self, at: int, step: int) -> None:
        """A secret is found wherever it stands and however the text arrives, and nothing else changes."""
        words = "some words and\nlines " * 100
        self.redactor = Redactor()
        text = f"{words[:at]} {KEY} {words[at:]}"
        self.assertEqual(self.text(text, Form.TEXT, step), text.replace(KEY, "REDACTED"))
        self.assertEqual(self.redactor.count, 1)

    @given(st.integers(0, 1500))
    def test_without_spaces(self, at: int) -> None:
        """The same in a text that can be cut nowhere but within."""
        words = "ab,c;" * 400
        text = f"{words[:at]},{KEY},{words[at:]}"
        self.assertEqual(self.text(text, Form.TEXT), text.replace(KEY, "REDACTED"))

    def test_json(self) -> None:
        """Long JSON loses its secret members and the secrets in its strings, and keeps space and escapes."""
        inner = json.dumps({"client_secret": "canary"})
        words = "words " * 99
        text = (
            '{ "api_key" :"canary",\t"a": ["\\u00e9\\/", 1e400], "tokens": ["x"],\n "password": ["canary"],'
            f'"{KEY}": 1, "inner": {json.dumps(inner)}, "long": "{words} {KEY}\\u00e9 {words}",'
            f' "secret": "{"canary" * 99}"}}'
        )
        shown = self.text(text, Form.JSON)
        self.assertNotIn("canary", shown)
        self.assertNotIn(KEY, shown)
        self.assertIn('{ "api_key" :"REDACTED",\t"a": ["\\u00e9\\/", 1e400], ', shown)
        self.assertIn("REDACTED\\u00e9 words", shown)
        self.assertEqual(json.loads(shown)["long"], json.loads(text)["long"].replace(KEY, "REDACTED"))

    @given(st.recursive(st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text("ab"), x)))
    def test_harmless_json(self, value: object) -> None:
        """JSON without secrets is not changed."""
        for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
            self.assertEqual(self.text(text + " " * 60, Form.JSON), text + " " * 60)

    def test_layout(self) -> None:
        """A long string is laid out without its secrets; of a limited line the rest is not read."""
        text = json.dumps({"a": f"{'words ' * 99}{KEY} {'words ' * 99}", "password": "canary" * 99, "b": 1})
        pieces = [text[at : at + 50] for at in range(0, len(text), 50)]
        lines = list(json_lines(pieces, self.redactor, Paint()))
        self.assertEqual(json.loads("\n".join(lines))["b"], 1)
        self.assertNotIn(KEY, "".join(lines))
        self.assertNotIn("canary", "".join(lines))
        lines = list(json_lines(pieces, Redactor(), Paint(), most=20))
        self.assertTrue(lines[1].startswith('  "a": "words words '))
        self.assertLess(len(lines[1]), 700)
        self.assertEqual(lines[3:], ['  "b": 1', "}"])

    def test_form(self) -> None:
        """JSON that was sent as a form is redacted as JSON."""
        body = b'{"password": "canary", "a": "b=c&d"}'
        shown = b"".join(redacted_bytes([body], "application/x-www-form-urlencoded", self.redactor))
        self.assertEqual(shown, b'{"password": "REDACTED", "a": "b=c&d"}')


class BytesTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Secret fields and secrets in texts go from an upload, and not a byte else."""
        redactor = Redactor()
        shown = b"".join(redacted_bytes([UPLOAD], UPLOAD_TYPE, redactor))
        self.assertEqual(shown, UPLOAD.replace(b"canary", b"REDACTED").replace(KEY.encode(), b"REDACTED"))
        self.assertEqual(redactor.count, 2)

    def test_charsets(self) -> None:
        """A secret is found in every charset, and the body stays in its charset."""
        for charset in ("utf-8", "utf-8-sig", "gb18030", "shift_jis", "utf-16", "utf-16-be", "latin-1"):
            text = json.dumps({"password": "canary", "text": "abc"})
            kind = f"application/json; charset={charset.removesuffix('-sig')}"
            shown = b"".join(redacted_bytes([text.encode(charset)], kind, Redactor()))
            self.assertEqual(shown.decode(charset), text.replace("canary", "REDACTED"), charset)

    @given(st.binary(max_size=200), st.sampled_from(["", "gbk", "shift_jis", "utf-16", "euc-kr", "utf-8"]))
    def test_harmless(self, body: bytes, charset: str) -> None:
        """Bytes without a secret come back, whatever their charset is said to be."""
        body = bytes(byte if byte not in b"=:@" else 32 for byte in body)
        shown = b"".join(redacted_bytes([body], f"text/plain; charset={charset}", Redactor()))
        self.assertEqual(shown, body)


class JsonTests(SynchronousTestCase):
    def lazy(self, data: bytes, kind: str, redactor: Redactor) -> LazyBody:
        return LazyBody(lambda: Body([data], kind), redactor)

    def view(self, data: bytes, kind: str = "") -> object:
        body = self.lazy(data, kind, Redactor())
        return json.loads("".join(json_pieces({"id": 1, "body": body})))["body"]

    def test_bodies(self) -> None:
        """Text is text, other bytes are base64, and what was wrong is said."""
        self.assertEqual(self.view('{"a": "é😀", "password": "canary"}'.encode()),
                         {"text": '{"a": "é😀", "password": "REDACTED"}'})  # fmt: skip
        self.assertEqual(self.view(b"\0\1\2\3"), {"base64": "AAECAw=="})
        self.assertEqual(
            self.view(b"mostly text \xff"),
            {"text": "mostly text \\xff", "trouble": "some bytes are invalid in their charset"},
        )

    def test_parts(self) -> None:
        """A multipart body has its parts, secret fields without their values."""
        self.assertEqual(
            self.view(UPLOAD, UPLOAD_TYPE),
            {
                "parts": [
                    {"name": "model", "text": "whisper-1"},
                    {"name": "api_key", "text": "REDACTED"},
                    {"name": "file", "filename": "a", "content_type": "audio/mpeg", "base64": "//sAAQ=="},
                    {"name": "more", "text": "use REDACTED"},
                ]
            },
        )

    def test_members(self) -> None:
        """A body's members stand beside others; what comes one by one is an array."""
        body = self.lazy(b"a", "", Redactor())
        self.assertEqual(json.loads("".join(with_members({"id": 1}, body))), {"id": 1, "text": "a"})
        self.assertEqual("".join(json_pieces({"a": iter([1, {"b": 2}])})), '{"a":[1,{"b":2}]}')

    def test_bounded(self) -> None:
        """A long string of JSON goes through without being held."""

        def pieces() -> Iterator[bytes]:
            yield b'{"image": "'
            for _ in range(200):
                yield b"QUJDabc+" * 10_000
            yield b'", "model": "m"}'

        tracemalloc.start()
        try:
            size = sum(map(len, json_pieces(LazyBody(lambda: Body(pieces(), ""), Redactor()))))
            self.assertGreater(size, 16_000_000)
            self.assertLess(tracemalloc.get_traced_memory()[1], 12 << 20)
        finally:
            tracemalloc.stop()
